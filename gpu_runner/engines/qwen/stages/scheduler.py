"""Which rows are admitted next, and how many may be in flight: as many as memory has been seen to allow."""

from collections import Counter
from collections.abc import Iterable, Sequence

from gpu_runner.engines.qwen.rows import Row

GROW_AFTER = 32  # rows that end without a shortage of memory until one more at a time is tried


class Scheduler:
    """The rows that wait."""

    def __init__(self, capacity: int) -> None:
        self.limit = capacity
        self._capacity = capacity
        self._waiting: list[Row] = []
        self._since_shortage = 0

    def __bool__(self) -> bool:
        """Whether any row waits."""
        return bool(self._waiting)

    def add(self, rows: Sequence[Row]) -> None:
        """Let rows wait behind all others."""
        self._waiting += rows

    def put_back(self, rows: Sequence[Row]) -> None:
        """Let rows wait that have been in flight, or nearly."""
        self._waiting = [*rows, *self._waiting]

    def remove(self, job_id: str) -> None:
        """Drop the rows of a job."""
        self._waiting = [row for row in self._waiting if row.job_id != job_id]

    def clear(self) -> None:
        """Drop all rows."""
        self._waiting.clear()

    def candidates(self, in_flight: Iterable[Row]) -> list[Row]:
        """Return the rows that may be admitted, in order.

        A long text gives way to jobs that have fewer rows in flight; otherwise it is first come, first served.
        """
        taken = Counter(row.job_id for row in in_flight)
        waiting, chosen = list(self._waiting), list[Row]()
        while waiting and taken.total() < self.limit:
            row = min(waiting, key=lambda row: taken[row.job_id])
            waiting.remove(row)
            chosen.append(row)
            taken[row.job_id] += 1
        return chosen

    def take(self, row: Row) -> None:
        """Stop a row's waiting."""
        self._waiting.remove(row)

    def shrink(self, limit: int) -> None:
        """Learn that memory allows no more than so many in flight."""
        self.limit = max(1, limit)
        self._since_shortage = 0

    def row_ended(self) -> None:
        """Learn that one more row has ended without trouble."""
        self._since_shortage += 1
        if self.limit < self._capacity and self._since_shortage >= GROW_AFTER:
            self.limit += 1
            self._since_shortage = 0
