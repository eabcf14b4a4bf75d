"""One change over the API on its way to being in force."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from txlb.config.overlay import BACKEND, Changes, Composed, changed
from txlb.control.configuration import Draft
from txlb.control.targets import Targets
from txlb.errors import ConfigError, RevisionMismatch

Edit = Callable[[Composed, Container[str]], Changes]  # from the configuration, and the ids that are leaving


@dataclass(slots=True)
class Amendment:
    """``done`` fires when it is in force, or fails with the reason why it never will be."""

    edit: Edit
    if_match: str | None = None  # the configuration that it was made for, as an If-Match field says it
    addresses: Mapping[str, str] = field(default_factory=dict)  # what its host names resolved to
    linger: float = 0.0  # seconds that what it removes may go on
    done: Deferred[None] = field(default_factory=Deferred)

    def apply(self, draft: Draft, etag: str, targets: Targets) -> None:
        """Change ``draft``, whose tag is ``etag``, or raise a `TxlbError`. Slow: for a thread."""
        if self.if_match is not None and not matches(self.if_match, etag):
            raise RevisionMismatch("the configuration is another by now: read it again")
        changes = self.edit(draft.composed, draft.leaving)
        composed = changed(draft.composed, changes)
        guarded = composed.guarded()
        touched = {id for kind, id in changes if kind == BACKEND and id in guarded}
        refusals = []
        for spec in composed.snapshot.backends:
            if spec.id in touched:
                address = spec.address or self.addresses.get(spec.host, "")
                if why := targets.refusal(address, spec.port):
                    refusals.append(f"host: {why}")
        if refusals:
            raise ConfigError(refusals)
        draft.take(composed, time.monotonic() + self.linger)


def matches(field: str, etag: str) -> bool:
    """Does an If-Match field admit ``etag``? Weak tags never match, and "" (no tag any more) matches none."""
    return field.strip() == "*" or (etag != "" and etag in (tag.strip() for tag in field.split(",")))
