"""What the worker depends on, and whether it answers: an outage is logged once at its start and once at its end."""

from dataclasses import dataclass, field
from datetime import datetime

import structlog

from pipeline.errors import Unavailable
from pipeline.ids import Clock

LONGEST_PAUSE_SECONDS = 30.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Link:
    """The way to one neighbour."""

    name: str
    clock: Clock
    failures: int = 0
    pauses: int = 0
    last_answer: datetime | None = None

    @property
    def is_up(self) -> bool:
        """Whether the last word from it was an answer."""
        return self.failures == 0

    def answered(self) -> None:
        """Note an answer."""
        self.last_answer = self.clock()
        if self.failures:
            log.info("reachable again", neighbour=self.name, failures=self.failures)
        self.failures = self.pauses = 0

    def failed(self, error: Unavailable) -> None:
        """Note that no answer came."""
        self.failures += 1
        if self.failures == 1:
            log.warning("not reachable", neighbour=self.name, reason=error.message)

    def next_pause(self) -> float:
        """Tell how many seconds to leave it alone before the next try, more each time."""
        self.pauses += 1
        return back_off_seconds(self.pauses)

    def has_been_silent(self, seconds: float) -> bool:
        """Tell whether it has said nothing for so long, or ever."""
        return self.last_answer is None or (self.clock() - self.last_answer).total_seconds() > seconds


@dataclass(slots=True)
class Links:
    """The ways to both neighbours."""

    clock: Clock
    queue: Link = field(init=False)
    storage: Link = field(init=False)

    def __post_init__(self) -> None:
        self.queue = Link("queue", self.clock)
        self.storage = Link("storage", self.clock)


def back_off_seconds(failures: int) -> float:
    """Wait 1, 2, 4, 8 … seconds after so many failures in a row."""
    return min(2.0 ** max(0, min(failures, 16) - 1), LONGEST_PAUSE_SECONDS)
