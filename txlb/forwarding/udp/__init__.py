"""UDP: flows between client addresses and backends."""
