import json

from hypothesis import given
from hypothesis import strategies as st

from txlb.core.standing import Standing, standings_of

STANDINGS = st.builds(
    Standing,
    st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    st.booleans(),
    st.booleans(),
    st.none() | st.floats(0, 1e9),
)


@given(st.lists(STANDINGS))
def test_standings_cross_the_link_unchanged(standings: list[Standing]) -> None:
    rows = json.loads(json.dumps([standing.to_row() for standing in standings]))
    assert standings_of(rows) == standings


def test_only_what_somebody_said_differs_from_the_default() -> None:
    assert Standing("b").is_default
    assert not Standing("b", healthy=False).is_default
    assert not Standing("b", drained=True).is_default
