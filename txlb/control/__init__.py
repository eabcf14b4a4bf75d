"""The control plane: owns sockets and configuration, supervises workers, answers the admin API."""
