"""Every seam of txlb, as a zope interface whose docstring is the contract.

Nothing here is called per request unless its docstring says *data speed*; what is, must neither block nor
allocate to speak of. Everything runs in the reactor thread unless stated otherwise.
"""

from __future__ import annotations

from zope.interface import Attribute, Interface

__all__ = [
    "IAlgorithm",
    "IAlgorithmFactory",
    "IBackend",
    "IContext",
    "IOutcomeObserver",
    "IProbe",
    "IStore",
]


class IBackend(Interface):
    """What an algorithm sees of one address that serves."""

    id = Attribute("text, stable: the same in every process and after every reload")
    host = Attribute("text, as the operator wrote it")
    port = Attribute("int")
    weight = Attribute("int, 0..65535; never 0 in what ``rebuild`` gets")
    active_connections = Attribute("int: leases out now, counted by the pool; exact in this process")
    state = Attribute("dict of the algorithms' own; lasts as long as the backend, across rebuilds")


class IContext(Interface):
    """The exchange, connection or flow that a backend is picked for. What does not apply is None."""

    now = Attribute("float: monotonic seconds")
    listener = Attribute("text: the listener's id")
    client_ip = Attribute("text")
    client_port = Attribute("int")
    host = Attribute("text or None: lower case, without port")
    method = Attribute("text or None")
    path = Attribute("text or None: the raw target without the query")

    def header(name):  # type: ignore[no-untyped-def]
        """The first value of a header field (text), or None. ``name`` is lower case."""


class IAlgorithm(Interface):
    """Chooses; it neither counts nor excludes: the pool does."""

    def rebuild(backends):  # type: ignore[no-untyped-def]
        """Control speed: these backends (a list, perhaps empty) are eligible from now on.

        Called once on a fresh object, before its first ``pick``; when membership, a weight or a status
        changes, another object is built and swapped in, at most every 50 ms per rule. May be a generator: it
        is then run in slices, one ``next()`` at a time, and should yield every few milliseconds.
        """

    def pick(context, tried):  # type: ignore[no-untyped-def]
        """Data speed: one of the backends, not in ``tried``, or None for "no opinion".

        ``tried`` (a sequence; do not change it) has the backends that this exchange has been to already and
        those that became ineligible or full since ``rebuild``. After None, 8 refused picks, an exception or
        an answer that is no backend of the pool, the pool looks for a backend itself. ``context`` provides
        `IContext`.
        """


class IOutcomeObserver(Interface):
    """Optional, on an algorithm: it wants to know how its picks turned out."""

    def observe(backend, outcome, now):  # type: ignore[no-untyped-def]
        """Data speed: a lease on ``backend`` was released; ``outcome`` is one of `txlb.core.outcome`."""


class IAlgorithmFactory(Interface):
    """What makes an algorithm by name."""

    name = Attribute("text, lower case: what the configuration says")
    Options = Attribute("a pydantic model of the algorithm's options, or None if it takes none")

    def __call__(**options):  # type: ignore[no-untyped-def]
        """A fresh `IAlgorithm`; ``options`` were validated by ``Options``."""


class IStore(Interface):
    """Keeps objects (JSON values by text key) and the revision that each commit raises by one.

    One that can be shared lets several load balancers have one configuration. Deferreds fail with
    `txlb.errors.StoreError`; then nothing has changed.
    """

    def open():  # type: ignore[no-untyped-def]
        """Called once, before anything is served; may block. Raises `txlb.errors.StoreError`."""

    def load():  # type: ignore[no-untyped-def]
        """A Deferred of ``(revision, {key: value})``."""

    def commit(changes, expected_revision):  # type: ignore[no-untyped-def]
        """A Deferred of the new revision, once the changes will outlive a crash: all of them, or none.

        ``changes``: a value, or None to delete, by key. Fails with `txlb.errors.RevisionMismatch` if the
        revision is not ``expected_revision``.
        """

    def watch(callback):  # type: ignore[no-untyped-def]
        """From now on call ``callback(revision, changes)`` after every commit, one's own and others'."""

    def close():  # type: ignore[no-untyped-def]
        """A Deferred that fires when everything is given back."""


class IProbe(Interface):
    """A health check of one's own: ``health_check: {type: "package.module:Class", options: {…}}``.

    The class is called with the options as keywords, once when a configuration is checked and once when it
    is put in force; that object serves all backends with the same class and options. ``check`` runs in the
    control process, in its reactor thread: what blocks there delays every other check.
    """

    def check(backend):  # type: ignore[no-untyped-def]
        """An ``async def``, or a function that returns a Deferred: ends if ``backend`` is well, else raises.

        ``backend`` has ``id, host, address, port``; ``address`` is the IP address that ``host`` resolved to.
        The exception's text becomes the backend's ``last_reason``. A check that takes longer than its time is
        cancelled and counts as failed; its time is ``timeout``, and less while the backend is in doubt.
        """
