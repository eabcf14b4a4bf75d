"""HTTP/1.1 message syntax and framing as pure functions over bytes."""
