"""The health of storage and queue as the worker sees it. Outages are logged when they start and end."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from pipeline.errors import Misconfigured, Unavailable
from pipeline.ids import Clock

Sleep = Callable[[float], Awaitable[object]]

MAX_BACKOFF_SECONDS = 30.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class DependencyHealth:
    """Whether one service answers."""

    name: str
    clock: Clock
    failures: int = 0
    retries: int = 0
    last_answer: datetime | None = None

    @property
    def is_up(self) -> bool:
        """Whether its last call was answered."""
        return self.failures == 0

    def succeeded(self) -> None:
        """Record a call that was answered."""
        self.last_answer = self.clock()
        if self.failures:
            log.info("dependency available again", dependency=self.name, failures=self.failures)
        self.failures = self.retries = 0

    def failed(self, error: Unavailable) -> None:
        """Record a call that was not answered."""
        self.failures += 1
        if self.failures == 1:
            if isinstance(error, Misconfigured):
                log.error("dependency misconfigured", dependency=self.name, reason=error.message)
            else:
                log.warning("dependency unavailable", dependency=self.name, reason=error.message)

    def next_backoff(self) -> float:
        """Return the seconds to wait before the next retry, more each time."""
        self.retries += 1
        return backoff_seconds(self.retries)

    def is_stale(self, seconds: float) -> bool:
        """Return whether its last answer is older than that, or there was none."""
        return self.last_answer is None or (self.clock() - self.last_answer).total_seconds() > seconds


@dataclass(slots=True)
class Dependencies:
    """The two services that the worker depends on."""

    clock: Clock
    queue: DependencyHealth = field(init=False)
    storage: DependencyHealth = field(init=False)

    def __post_init__(self) -> None:
        self.queue = DependencyHealth("queue", self.clock)
        self.storage = DependencyHealth("storage", self.clock)


def backoff_seconds(failures: int) -> float:
    """Return 1, 2, 4, 8 … up to `MAX_BACKOFF_SECONDS` for 1, 2, 3, 4 … consecutive failures."""
    return min(2.0 ** max(0, min(failures, 16) - 1), MAX_BACKOFF_SECONDS)
