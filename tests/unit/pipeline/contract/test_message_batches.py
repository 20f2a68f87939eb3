"""The format of several messages in one request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract.messages.message_batches import parse_batch, to_batch


@given(st.lists(st.tuples(st.from_regex("[A-Za-z0-9_-]{1,22}", fullmatch=True), st.binary(max_size=50))))
def test_round_trip(messages: list[tuple[str, bytes]]) -> None:
    assert parse_batch(to_batch(messages)) == messages


@pytest.mark.parametrize(
    "batch", [b"a", b"a\n", b"a \n", b"a 2\n1", b"a -2\n", b"a 1\n12", b"a 1x\n1", b"\xff 1\n1", b"a 1\n1b"]
)
def test_damaged_batch(batch: bytes) -> None:
    with pytest.raises(ValueError, match=r"length|substring|section|decode"):
        parse_batch(batch)
