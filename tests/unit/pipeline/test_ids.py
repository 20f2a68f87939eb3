"""Ids of sessions and jobs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ids import id_maker, is_id, lowest_id, timestamp_of, utc_now

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(8999, 12, 31), timezones=st.just(UTC))


@settings(derandomize=True, database=None)
@given(MOMENTS)
def test_timestamp_of_id(moment: datetime) -> None:
    id_ = id_maker(lambda: moment)()
    assert is_id(id_)
    assert timedelta(0) <= moment - timestamp_of(id_) < timedelta(milliseconds=1)


@settings(derandomize=True, database=None)
@given(MOMENTS, MOMENTS)
def test_ids_sort_by_age(one: datetime, other: datetime) -> None:
    early, late = sorted([one, other])
    if late - early >= timedelta(milliseconds=1):
        assert id_maker(lambda: early)() < id_maker(lambda: late)()


def test_lowest_id_bounds_older_ids() -> None:
    bound = lowest_id(NOW)
    assert id_maker(lambda: NOW - timedelta(milliseconds=1))() < bound
    assert bound < id_maker(lambda: NOW)()
    assert timestamp_of(bound) == NOW


def test_ids_of_one_moment_differ() -> None:
    new_id = id_maker(lambda: NOW)
    assert len({new_id() for _ in range(1000)}) == 1000


def test_clock_is_aware() -> None:
    assert utc_now().utcoffset() == timedelta(0)


GOOD = "019ca9450a7b792b8fce824aed0fccfe"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nova",
        GOOD.upper(),
        GOOD[:-1],
        GOOD + "0",
        GOOD + "\n",
        " " + GOOD[1:],
        GOOD[:12] + "4" + GOOD[13:],
        GOOD[:16] + "f" + GOOD[17:],
        f"{GOOD[:8]}-{GOOD[8:12]}-{GOOD[12:16]}-{GOOD[16:20]}-{GOOD[20:]}",
        "0" * 32,
        "../" + GOOD,
        "\u0661" * 32,
    ],
)
def test_is_id_malformed(text: str) -> None:
    assert not is_id(text)


def test_is_id_beyond_end_of_time() -> None:
    assert not is_id("ffffffffffff7fff8fffffffffffffff")
    assert not is_id(lowest_id(datetime(9999, 12, 31, tzinfo=UTC))[:12] + "7fff8fffffffffffffff")
