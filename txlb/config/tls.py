"""The sections about TLS: what clients are shown, and what backends must show."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from txlb.config import kinds
from txlb.config.kinds import choice, nullable
from txlb.config.section import REQUIRED, Section, key


class KeyPair(Section):
    """A certificate and its key, each a PEM file. Relative to the configuration file."""

    chain: Annotated[str, kinds.FILE] = key(
        REQUIRED, "The certificate, then the intermediate ones that lead to its CA.", "example.com.pem"
    )
    key: Annotated[str, kinds.FILE] = key(
        REQUIRED, "Its private key, without passphrase. The file may be the same.", "example.com.key"
    )


class Certificate(KeyPair):
    """One certificate of a listener: for the names in it."""

    client_ca: Annotated[str | None, nullable(kinds.FILE)] = key(
        None,
        "CA certificates for clients that ask for one of its names; `null` = as the listener says.",
        "ca.pem",
    )
    ocsp: Annotated[str | None, nullable(kinds.FILE)] = key(
        None,
        "OCSP response (DER) to staple for clients that ask for it, while it holds; `null` = none.",
        "example.com.ocsp",
    )


class Tls(Section):
    """TLS that ends at a listener. Files are read again when they change; see [TLS](tls.md)."""

    certificates: Annotated[tuple[Certificate, ...], Field(min_length=1)] = key(
        REQUIRED,
        "A client gets the one for its server name (SNI): the exact name, else `*.` and one label. Of the"
        " same names there may be one each with an RSA, an ECDSA and an Ed25519 key.",
    )
    client_ca: Annotated[str | None, nullable(kinds.FILE)] = key(
        None,
        "PEM file of CA certificates: clients must show a certificate from one of them.",
        "clients-ca.pem",
    )
    client_auth: Annotated[str, choice("required", "optional")] = key(
        "required", "Whether a client without certificate is refused. A bad one always is.", "optional"
    )
    min_version: Annotated[str, choice("1.2", "1.3")] = key(
        "1.2", "The oldest version of TLS that is spoken.", "1.3"
    )
    unknown_name: Annotated[str, choice("default", "refuse")] = key(
        "default",
        "A client that asks for another name, or for none, gets the first certificate, or is refused.",
        "refuse",
    )


class BackendTls(Section):
    """TLS to a backend."""

    ca: Annotated[str | None, nullable(kinds.FILE)] = key(
        None,
        "PEM file of the CA certificates that vouch for it; `null` = those that the system trusts.",
        "ca.pem",
    )
    server_name: Annotated[str | None, nullable(kinds.HOST)] = key(
        None, "Name asked for (SNI) and looked for in its certificate; `null` = `host`.", "web.internal"
    )
    client_certificate: KeyPair | None = key(None, "What txlb shows of itself: `{chain: …, key: …}`.")
    verify: Annotated[bool, kinds.BOOLEAN] = key(
        True, "Whether its certificate is verified. Without, whoever is in the middle can read along.", True
    )
