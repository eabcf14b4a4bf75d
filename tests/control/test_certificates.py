"""`txlb.control.certificates`: new files come into force by themselves, broken ones never."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from support.ocsp import HOUR, Responder, stapled, with_issuer
from support.tls import Authority, backend_spec, spec_of
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogEvent, globalLogPublisher

from txlb.config.changes import add_backend, patch_backend
from txlb.config.overlay import changed, compose, read_again
from txlb.control.certificates import CertificateWatch, certificates_in, reread, stapled_in
from txlb.core.model import BackendSpec, ListenerSpec, Snapshot


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def snapshot_of(authority: Authority) -> Snapshot:
    tls = spec_of(authority.certificate("a.example", label="a"))
    secure = backend_spec(ca=authority.path, client_certificate=authority.certificate("me", label="me"))
    return Snapshot(
        listeners=(ListenerSpec("web", (), tls=tls), ListenerSpec("plain", ())),
        backends=(
            BackendSpec("b0", "10.0.0.1", 1, tls=secure),
            BackendSpec("b1", "10.0.0.1", 2, tls=secure),
            BackendSpec("b2", "10.0.0.1", 3),
        ),
    )


def names(snapshot: Snapshot) -> tuple[str, ...]:
    tls = snapshot.listeners[0].tls
    assert tls is not None
    return tls.certificates[0].names


def test_nothing_new_is_nothing_new(authority: Authority) -> None:
    snapshot = snapshot_of(authority)
    os.utime(authority.folder / "a.pem")
    assert reread(snapshot) == (snapshot, [])
    assert reread(snapshot)[0] is snapshot
    assert [Path(one.chain).name for one in certificates_in(snapshot)] == ["a.pem", "me.pem"]


def test_new_contents_are_in_force_also_behind_a_symbolic_link(authority: Authority) -> None:
    snapshot = snapshot_of(authority)
    authority.certificate("b.example", label="new")
    for end in ("pem", "key"):
        link = authority.folder / f"a.{end}"
        link.unlink()
        link.symlink_to(authority.folder / f"new.{end}")
    fresh, said = reread(snapshot)
    assert (names(fresh), said) == (("b.example",), [])
    assert fresh.backends == snapshot.backends


def test_backends_share_what_is_read(authority: Authority) -> None:
    snapshot = snapshot_of(authority)
    authority.certificate("me-too", label="me")
    fresh, _ = reread(snapshot)
    one, two, three = fresh.backends
    assert one.tls is two.tls is not None
    assert one.tls != snapshot.backends[0].tls
    assert three.tls is None


def test_what_the_api_added_is_read_again_too(authority: Authority) -> None:
    file = Snapshot(backends=(BackendSpec("a", "127.0.0.1", 1, address="127.0.0.1"),))
    start = compose(file, {})
    body = {"id": "b", "host": "127.0.0.1", "port": 2, "tls": {"ca": authority.path}}
    composed = changed(start, add_backend(start, body))
    assert read_again(composed, lambda now: reread(now)[0]) is composed
    Authority(authority.folder)  # another CA in the same file
    renewed = read_again(composed, lambda now: reread(now)[0])
    for later in (renewed, changed(renewed, patch_backend(renewed, "a", {"weight": 2}))):
        tls = later.snapshot.backends[-1].tls
        assert tls is not None and tls.ca_pem == Path(authority.path).read_text()
    assert (renewed.file, renewed.overlay, renewed.file_digest) == (
        composed.file, composed.overlay, composed.file_digest,
    )  # fmt: skip


def test_a_response_comes_into_force_and_a_bad_one_holds_up_nothing(authority: Authority) -> None:
    pair = stapled(with_issuer(authority.certificate("a.example", label="a"), authority), authority)
    listener = ListenerSpec("web", (), tls=spec_of(pair, authority.certificate("b.example", label="b")))
    snapshot = Snapshot(listeners=(listener, ListenerSpec("plain", ())))
    assert reread(snapshot)[0] is snapshot
    stapled(pair, authority, Responder(authority).response(pair, ends=99 * HOUR))
    fresh, said = reread(snapshot)
    assert (fresh != snapshot, said) == (True, [])
    Path(pair["ocsp"]).unlink()
    authority.certificate("c.example", label="b")
    later, (line,) = reread(fresh)
    assert line.endswith(
        "a.ocsp cannot be read: No such file or directory; what was read before stays in force"
    )
    assert fresh.listeners[0].tls is not None and later.listeners[0].tls is not None
    assert later.listeners[0].tls.certificates[0] == fresh.listeners[0].tls.certificates[0]
    assert later.listeners[0].tls.certificates[1].names == ("c.example",)
    twice = replace(later, listeners=(*later.listeners, *later.listeners))
    assert [one.ocsp and Path(one.ocsp.path).name for one in stapled_in(twice)] == ["a.ocsp", None]


def test_broken_files_change_nothing(authority: Authority) -> None:
    snapshot = snapshot_of(authority)
    (authority.folder / "a.key").write_text("half a ke")
    Path(authority.path).unlink()
    same, said = reread(snapshot)
    assert same is snapshot
    assert len(said) == 2
    assert "a.key holds no private key" in said[0]
    assert "half a ke" not in "".join(said)


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest_twisted.ensureDeferred
async def test_the_watch_puts_in_force_and_tells_once(authority: Authority) -> None:
    from twisted.internet import reactor

    force = [snapshot_of(authority)]
    lines: list[str] = []

    def amend(edit: object) -> Deferred[bool]:
        force.append(edit(force[-1]))  # type: ignore[operator]
        return succeed(True)

    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == "txlb.control.certificates.CertificateWatch":
            lines.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    clock = Clock()
    watch = CertificateWatch(reactor, lambda: force[-1], amend, clock)
    try:
        await watch.look()
        assert (len(force), lines) == (1, [])
        (authority.folder / "a.key").write_text("half")
        for _ in range(3):
            await watch.look()
        assert len(force) == 1
        assert len(lines) == 1
        assert "what was read before stays in force" in lines[0]
        authority.certificate("b.example", label="a")
        await watch.look()
        assert names(force[-1]) == ("b.example",)
        assert "certificates changed" in lines[1]
        clock.now = force[-1].listeners[0].tls.certificates[0].not_after - 86400  # type: ignore[union-attr]
        for _ in range(3):
            await watch.look()
        assert sum("expires in 1 days" in line for line in lines) >= 1
        assert len(lines) <= 4  # two certificates, once each
    finally:
        globalLogPublisher.removeObserver(observe)


@pytest_twisted.ensureDeferred
async def test_a_response_that_ends_is_told_daily(authority: Authority) -> None:
    from twisted.internet import reactor

    pair = stapled(with_issuer(authority.certificate("a.example", label="a"), authority), authority)
    snapshot = Snapshot(listeners=(ListenerSpec("web", (), tls=spec_of(pair)),))
    lines: list[str] = []

    def never(edit: object) -> Deferred[bool]:
        raise AssertionError

    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == "txlb.control.certificates.CertificateWatch":
            lines.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    clock = Clock()
    watch = CertificateWatch(reactor, lambda: snapshot, never, clock)
    try:
        response = next(stapled_in(snapshot)).ocsp
        assert response is not None
        clock.now = response.begins + 1.0
        await watch.look()
        assert lines == []
        for clock.now in (response.ends - 3600.0, response.ends - 1800.0, response.ends + 86400.0):
            await watch.look()
        assert [line.removeprefix(response.path) for line in lines] == [
            " holds for 1.0 hours more: it is time for a new response",
            " expired 24.0 hours ago: nothing is stapled",
        ]
    finally:
        globalLogPublisher.removeObserver(observe)


@pytest_twisted.ensureDeferred
async def test_without_tls_no_file_is_read() -> None:
    from twisted.internet import reactor

    def never(edit: object) -> Deferred[bool]:
        raise AssertionError

    watch = CertificateWatch(reactor, lambda: Snapshot(), never)
    await watch.look()
