"""HTTP/1.1: client side, backend side, and the exchange between them."""
