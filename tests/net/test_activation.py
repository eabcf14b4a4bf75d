"""`txlb.net.activation`: what of systemd's environment counts.

Real descriptors are in tests/integration/test_binds.py.
"""

from __future__ import annotations

import pytest

from txlb.errors import ListenError
from txlb.net.activation import activated, inherited_names


@pytest.mark.parametrize(
    ("fdnames", "names"),
    [("a:b", ["a", "b"]), ("a", ["a", "unknown"]), ("", ["unknown", "unknown"]), ("a:a:c", ["a", "a"])],
)
def test_every_descriptor_has_a_name(fdnames: str, names: list[str]) -> None:
    environ = {"LISTEN_FDS": "2", "LISTEN_PID": "7", "LISTEN_FDNAMES": fdnames}
    assert inherited_names(environ, 7) == names


@pytest.mark.parametrize("count", ["", "0", "-1", "x", "٣"])
def test_no_socket_is_an_error(count: str) -> None:
    with pytest.raises(ListenError, match="systemd passed no socket"):
        inherited_names({"LISTEN_FDS": count, "LISTEN_PID": "7"}, 7)


@pytest.mark.parametrize("owner", ["", "8", "07"])
def test_sockets_of_another_process_are_not_ours(owner: str) -> None:
    with pytest.raises(
        ListenError, match=r"are for process .*, not for us \(7\): run twistd in the foreground"
    ):
        inherited_names({"LISTEN_FDS": "1", "LISTEN_PID": owner}, 7)


def test_the_error_names_the_bind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with pytest.raises(ListenError, match="cannot listen on systemd:web: systemd passed no socket"):
        activated("web")
