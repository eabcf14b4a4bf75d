from __future__ import annotations

from pathlib import Path

from txlb.core import termination
from txlb.core.termination import PHASE, TERMINATIONS, WHO, table

NUMBERS = {
    name: value for name, value in vars(termination).items() if name.isupper() and isinstance(value, int)
}


def test_every_cause_has_its_own_entry() -> None:
    assert sorted(NUMBERS.values()) == list(range(len(TERMINATIONS)))
    assert len({(it.code, it.meaning) for it in TERMINATIONS}) == len(TERMINATIONS)


def test_codes_are_made_of_the_letters_explained() -> None:
    for it in TERMINATIONS:
        assert len(it.code) == 2
        assert it.code[0] in WHO
        assert it.code[1] in PHASE


def test_names_and_entries_belong_together() -> None:
    phases = {"REQUEST": "R", "BODY": "B", "CONNECT": "C", "WAIT": "H", "DATA": "D", "TUNNEL": "T"}
    for name, number in NUMBERS.items():
        it = TERMINATIONS[number]
        if name.startswith("CLIENT_ABORT_"):
            assert (it.code, it.reason) == ("C" + phases[name.rpartition("_")[2]], "client_abort")
        elif name.startswith("BACKEND_RESET_"):
            assert (it.code, it.reason) == ("S" + phases[name.rpartition("_")[2]], "backend_reset")
        elif name == "BACKEND_DATA_TIMEOUT":
            assert (it.code, it.reason) == ("sD", "backend_timeout")
        else:
            assert it.reason == ("" if name == "NORMAL" else name.lower())
        assert it.code[0].islower() == (name.endswith("TIMEOUT"))


def test_the_documentation_has_this_very_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "access-log.md"
    assert table() in page.read_text(encoding="utf-8")
