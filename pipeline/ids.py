"""Ids of sessions and jobs: UUIDv7 in 32 hex digits, which sort by age and hold their time of creation."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import uuid_utils

Clock = Callable[[], datetime]
NewId = Callable[[], str]
Owner = str | None
"""Owner of keys, or None if authentication is off."""

_HEX = re.compile(r"[0-9a-f]{32}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Retention periods can be added to any earlier time without overflow.
_END = datetime(9000, 1, 1, tzinfo=UTC)


def utc_now() -> datetime:
    """Return the current time as an aware datetime in UTC."""
    return datetime.now(UTC)


def id_maker(clock: Clock) -> NewId:
    """Return a function that creates ids with the clock's time."""

    def new_id() -> str:
        return uuid_utils.uuid7(nanoseconds=_milliseconds(clock()) * 1_000_000).hex

    return new_id


def is_id(text: str) -> bool:
    """Return whether the text has the form of a session's or job's id."""
    return _HEX.fullmatch(text) is not None and UUID(text).version == 7 and text < lowest_id(_END)


def timestamp_of(id_: str) -> datetime:
    """Return when an id was created, to the millisecond (RFC 9562, section 5.7)."""
    return _EPOCH + timedelta(milliseconds=int(id_[:12], 16))


def lowest_id(moment: datetime) -> str:
    """Return the lowest id of a moment: every id below it is older."""
    return f"{_milliseconds(moment):012x}" + "0" * 20


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
