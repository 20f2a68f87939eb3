"""Who fails too often has to wait, and nobody else."""

from datetime import timedelta

import pytest

from functions.access.throttle import FailedKeyThrottle
from pipeline.errors import TooMany
from tests.fakes import FakeTime

HOME = "192.0.2.7"


def is_let(tries: FailedKeyThrottle, address: str) -> bool:
    try:
        tries.check(address)
    except TooMany:
        return False
    return True


def fail(tries: FailedKeyThrottle, address: str, times: int) -> None:
    for _ in range(times):
        assert is_let(tries, address)
        tries.note(address)


def test_twenty_failures_in_any_minute_are_enough() -> None:
    time = FakeTime()
    tries = FailedKeyThrottle(time)
    fail(tries, HOME, 10)
    time.now += timedelta(seconds=30)
    fail(tries, HOME, 10)
    with pytest.raises(TooMany, match=r"192\.0\.2\.7") as caught:
        tries.check(HOME)
    assert caught.value.retry_after == 30
    time.now += timedelta(seconds=29.5)
    with pytest.raises(TooMany) as caught:
        tries.check(HOME)
    assert caught.value.retry_after == 1
    time.now += timedelta(seconds=0.5)
    fail(tries, HOME, 10)
    assert not is_let(tries, HOME)
    time.now += timedelta(seconds=60)
    fail(tries, HOME, 20)


def test_asking_counts_nothing() -> None:
    tries = FailedKeyThrottle(FakeTime())
    assert all(is_let(tries, HOME) for _ in range(100))


@pytest.mark.parametrize(
    ("address", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
        ("2001:db8:1:2::1", "2001:0DB8:0001:0002::1"),
        ("192.0.2.7", "::ffff:192.0.2.7"),
        ("fe80::1%eth0", "fe80::2%eth1"),
    ],
)
def test_what_is_one_sender(address: str, other: str) -> None:
    tries = FailedKeyThrottle(FakeTime())
    fail(tries, address, 20)
    assert not is_let(tries, other)


@pytest.mark.parametrize(
    "other", ["192.0.2.8", "2001:db8:1:3::1", "::ffff:192.0.2.8", "::c000:207", "unix:/run/socket", ""]
)
def test_one_senders_failures_are_nobody_elses(other: str) -> None:
    tries = FailedKeyThrottle(FakeTime())
    fail(tries, HOME, 20)
    fail(tries, "2001:db8:1:2::1", 20)
    fail(tries, other, 20)
    assert not is_let(tries, other)


def test_of_too_many_addresses_the_latest_are_remembered() -> None:
    tries = FailedKeyThrottle(FakeTime(), tries=2, addresses=2)
    fail(tries, "192.0.2.1", 2)
    fail(tries, "192.0.2.2", 1)
    fail(tries, "192.0.2.3", 1)
    assert is_let(tries, "192.0.2.1")
    fail(tries, "192.0.2.2", 1)
    assert not is_let(tries, "192.0.2.2")


def test_a_clock_that_was_set_back_locks_nobody_out() -> None:
    time = FakeTime()
    tries = FailedKeyThrottle(time)
    fail(tries, HOME, 20)
    time.now -= timedelta(hours=1)
    assert is_let(tries, HOME)
