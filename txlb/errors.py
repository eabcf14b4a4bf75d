"""Every exception that txlb raises on purpose."""

from __future__ import annotations

from collections.abc import Iterable


class TxlbError(Exception):
    """Base of all: its text is written for the operator."""


class ConfigError(TxlbError):
    """The configuration is refused; ``problems`` has every reason, one line each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[str]]]:
        return type(self), (self.problems,)


class UnknownId(TxlbError):
    """A change over the API names something that is not there."""


class IdTaken(TxlbError):
    """A change over the API wants an id that something has."""


class RevisionMismatch(TxlbError):
    """The configuration is another than the one the change was made for."""


class StoreError(TxlbError):
    """The store cannot be opened, read or written."""


class NotServing(TxlbError):
    """Nothing can be changed yet, or any more: txlb starts or stops."""


class ListenError(TxlbError):
    """A listener cannot have its address."""


class AlgorithmError(TxlbError):
    """An algorithm is unknown, or what was built does not honour `txlb.interfaces.IAlgorithm`."""


class ExtensionError(TxlbError):
    """Code of the operator's own is absent, cannot be imported, or is not what was asked for."""


class WorkerError(TxlbError):
    """A worker process cannot be started, or broke the protocol of the link."""


class SendStalled(TxlbError):
    """A peer did not take what was sent to it within ``timeouts.send``."""
