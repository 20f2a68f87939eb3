"""The clients of external services."""

from datetime import UTC, datetime

import pytest

from pipeline.clients.resources import parse_time


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-30T05:09:53.000Z",
        "2026-11-30T07:09:53+02:00",
        "2026-11-30T05:09:53",
        "Mon, 30 Nov 2026 05:09:53 GMT",
        "1796015393",
        1796015393,
        1796015393.0,
    ],
)
def test_parse_time(value: object) -> None:
    parsed = parse_time(value)
    assert parsed.replace(tzinfo=parsed.tzinfo or UTC) == datetime(2026, 11, 30, 5, 9, 53, tzinfo=UTC)


def test_parse_time_of_seconds_that_look_like_a_date() -> None:
    assert parse_time("20261130") == datetime.fromtimestamp(20261130, UTC)
