"""The forwarding plane: protocols that carry exchanges between clients and backends."""
