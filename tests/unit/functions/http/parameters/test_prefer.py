import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.http.parameters.prefer import parse_prefer


@pytest.mark.parametrize(
    ("preferences", "seconds", "applied"),
    [
        ([], 25, None),
        ([""], 25, None),
        (["respond-async"], 0, "respond-async"),
        (["Respond-Async"], 0, "respond-async"),
        (["wait=5"], 5, "wait=5"),
        (["WAIT = 5"], 5, "wait=5"),
        (['wait="5"'], 5, "wait=5"),
        (["wait=0"], 0, "wait=0"),
        (["wait=100"], 25, "wait=25"),
        (["wait=99999999999999999999"], 25, None),
        (["wait"], 25, None),
        (["wait=soon"], 25, None),
        (["wait=-1"], 25, None),
        (["wait=1.5"], 25, None),
        (["await=5"], 25, None),
        (["respond-async-not"], 25, None),
        (["respond-async, wait=10"], 10, "respond-async, wait=10"),
        (["wait=10, respond-async"], 10, "respond-async, wait=10"),
        (["respond-async", "wait=10"], 10, "respond-async, wait=10"),
        (["handling=lenient", "respond-async"], 0, "respond-async"),
        (["handling=lenient; wait=3"], 25, None),
        (["wait=5; foo=bar"], 5, "wait=5"),
        (["return=minimal; respond-async"], 25, None),
        (['foo="a, respond-async, b"'], 25, None),
        (["wait=3, wait=7"], 3, "wait=3"),
        ([",,respond-async,,"], 0, "respond-async"),
    ],
)
def test_prefer_values(preferences: list[str], seconds: float, applied: str | None) -> None:
    assert parse_prefer(preferences, 25) == (seconds, applied)


@settings(derandomize=True, database=None)
@given(st.lists(st.text()), st.floats(0, 600))
def test_prefer_arbitrary_header(preferences: list[str], longest: float) -> None:
    assert 0 <= parse_prefer(preferences, longest)[0] <= longest
