"""The live reader of HAProxy's log: ``python sink.py PORT FILE`` appends all that arrives to the file, in
large pieces.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path


def main(port: int, path: Path) -> None:
    buffer = bytearray(1 << 18)
    view = memoryview(buffer)
    with socket.create_server(("127.0.0.1", port)) as server, path.open("ab", buffering=0) as log:
        while True:
            connection, _ = server.accept()
            with connection:
                while size := connection.recv_into(buffer):
                    log.write(view[:size])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
