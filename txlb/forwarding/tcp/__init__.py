"""TCP: a client's bytes to a backend and back, as they are."""
