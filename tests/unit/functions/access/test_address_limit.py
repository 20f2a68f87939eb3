import pytest

from functions.access.address_limit import AddressLimit
from pipeline.errors import TooMany
from tests.support.fakes.clock import FakeTime


def test_limit_of_address_ends_after_a_minute() -> None:
    time = FakeTime()
    limit = AddressLimit(time, 2)
    limit.take("198.51.100.1")
    limit.take("198.51.100.1")
    with pytest.raises(TooMany) as refused:
        limit.take("198.51.100.1")
    assert refused.value.retry_after == 60
    limit.take("198.51.100.2")
    time.now = time.now.replace(minute=1)
    limit.take("198.51.100.1")


def test_refused_requests_do_not_extend_limit() -> None:
    time = FakeTime()
    limit = AddressLimit(time, 1)
    limit.take("198.51.100.1")
    time.now = time.now.replace(second=59)
    with pytest.raises(TooMany):
        limit.take("198.51.100.1")
    time.now = time.now.replace(minute=1, second=0)
    limit.take("198.51.100.1")


def test_network_shares_limit() -> None:
    limit = AddressLimit(FakeTime(), 1)
    limit.take("2001:db8::1")
    with pytest.raises(TooMany):
        limit.take("2001:db8::2")
