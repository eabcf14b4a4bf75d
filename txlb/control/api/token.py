"""Makes a token: ``python -m txlb.control.api.token LABEL read|write >> tokens``.

Rules:

* The token itself goes to standard error, once; standard output gets the line for the token file, its hash.
* 256 random bits: nothing that could be guessed, so a fast hash is enough.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence

from txlb.config.values import parse_id
from txlb.control.api.auth import READ, WRITE, hash_of


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        prog="python -m txlb.control.api.token", description="Make an admin token."
    )
    parser.add_argument("label", help="who will use it, as the audit log will say")
    parser.add_argument("role", choices=[READ, WRITE])
    options = parser.parse_args(arguments)
    try:
        label = parse_id(options.label)
    except ValueError as error:
        parser.error(str(error))
    token = secrets.token_urlsafe(32)
    print(f"token, shown only now: {token}", file=sys.stderr)  # noqa: T201
    print(f"{label} {options.role} {hash_of(token)}")  # noqa: T201


if __name__ == "__main__":
    main()
