"""Failures are counted by address and credential; one that is good is never refused."""

import asyncio
from datetime import timedelta

import pytest

from functions.access.failed_keys import FailedKeyThrottle
from pipeline.errors import TooMany
from tests.support.fakes.clock import FakeTime

HOME = "192.0.2.7"
KEY = "4f9a0c21b7de"


def is_refused(throttle: FailedKeyThrottle, address: str, key: str = KEY) -> bool:
    """Fail once."""
    try:
        throttle.note(address, key)
    except TooMany:
        return True
    return False


def fail(throttle: FailedKeyThrottle, address: str, times: int, key: str = KEY) -> None:
    for _ in range(times):
        assert not is_refused(throttle, address, key)


def test_failures_limit_per_minute() -> None:
    time = FakeTime()
    throttle = FailedKeyThrottle(time)
    fail(throttle, HOME, 10)
    time.now += timedelta(seconds=30)
    fail(throttle, HOME, 10)
    with pytest.raises(TooMany, match=r"192\.0\.2\.7") as caught:
        throttle.note(HOME, KEY)
    assert caught.value.retry_after == 30
    time.now += timedelta(seconds=29.5)
    with pytest.raises(TooMany) as caught:
        throttle.note(HOME, KEY)
    assert caught.value.retry_after == 1
    time.now += timedelta(seconds=0.5)
    fail(throttle, HOME, 10)
    assert is_refused(throttle, HOME)
    time.now += timedelta(seconds=60)
    fail(throttle, HOME, 20)


def test_failures_counted_per_key() -> None:
    throttle = FailedKeyThrottle(FakeTime())
    fail(throttle, HOME, 20)
    fail(throttle, HOME, 20, "another")
    assert is_refused(throttle, HOME)


@pytest.mark.parametrize(
    ("address", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ("2001:db8:1:2::1", "2001:0DB8:0001:0002::1"),
        ("192.0.2.7", "::ffff:192.0.2.7"),
        ("fe80::1%eth0", "fe80::2%eth1"),
    ],
)
def test_same_client_network(address: str, other: str) -> None:
    throttle = FailedKeyThrottle(FakeTime())
    fail(throttle, address, 20)
    assert is_refused(throttle, other)


@pytest.mark.parametrize(
    "other", ["192.0.2.8", "2001:db8:1:3::1", "::ffff:192.0.2.8", "::c000:207", "unix:/run/socket", ""]
)
def test_other_client_network(other: str) -> None:
    throttle = FailedKeyThrottle(FakeTime())
    fail(throttle, HOME, 20)
    fail(throttle, "2001:db8:1:2::1", 20)
    fail(throttle, other, 20)
    assert is_refused(throttle, other)


def test_oldest_addresses_are_evicted() -> None:
    throttle = FailedKeyThrottle(FakeTime(), tries=2, remembered=4)  # each failure counts twice
    fail(throttle, "192.0.2.1", 2)
    fail(throttle, "192.0.2.2", 1)
    fail(throttle, "192.0.2.3", 1)
    fail(throttle, "192.0.2.2", 1)
    assert is_refused(throttle, "192.0.2.2")
    assert not is_refused(throttle, "192.0.2.1")


def test_clock_set_back_allows_requests() -> None:
    time = FakeTime()
    throttle = FailedKeyThrottle(time)
    fail(throttle, HOME, 20)
    time.now -= timedelta(hours=1)
    assert not is_refused(throttle, HOME)


async def most_look_ups_at_once(throttle: FailedKeyThrottle, address: str) -> int:
    """Start ten look-ups; return how many ran at the same time."""
    under_way, most = 0, 0

    async def look_up() -> None:
        nonlocal under_way, most
        async with throttle.look_up(address):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1

    await asyncio.gather(*(look_up() for _ in range(10)))
    return most


async def test_failing_address_has_one_lookup() -> None:
    time = FakeTime()
    throttle = FailedKeyThrottle(time)
    for number in range(20):
        assert await most_look_ups_at_once(throttle, HOME) == 10
        fail(throttle, HOME, 1, f"made up {number}")
    assert await most_look_ups_at_once(throttle, HOME) == 1
    assert await most_look_ups_at_once(throttle, "192.0.2.8") == 10
    time.now += timedelta(minutes=1)
    assert await most_look_ups_at_once(throttle, HOME) == 10
