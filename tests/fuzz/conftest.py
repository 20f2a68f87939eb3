"""A limit of the memory that invalid input may use."""

import resource
import sys
from collections.abc import Iterator

import pytest

GROWTH_MAX = 400 * 1024 * 1024


@pytest.fixture(scope="module", autouse=True)
def _memory_is_bounded() -> Iterator[None]:
    """Compare the peak memory before and after the tests of a module."""
    before = peak_memory()
    yield
    assert peak_memory() - before < GROWTH_MAX


def peak_memory() -> int:
    """Return the peak memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
