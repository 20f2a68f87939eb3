"""Chooses the rows to admit next, and limits those in flight to as many as memory has been observed to allow."""

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
        """Append rows to the queue."""
        self._waiting += rows

    def put_back(self, rows: Sequence[Row]) -> None:
        """Requeue rows that were in flight or about to be."""
        self._waiting = [*rows, *self._waiting]

    def remove(self, job_id: str) -> None:
        """Drop the rows of a job."""
        self._waiting = [row for row in self._waiting if row.job_id != job_id]

    def clear(self) -> None:
        """Drop all rows."""
        self._waiting.clear()

    def candidates(self, in_flight: Iterable[Row]) -> list[Row]:
        """Return the rows that may be admitted, in order.

        Jobs with fewer rows in flight precede long texts; otherwise the order is first in, first out.
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
        """Remove an admitted row from the queue."""
        self._waiting.remove(row)

    def shrink(self, limit: int) -> None:
        """Limit the rows in flight to what memory allows."""
        self.limit = max(1, limit)
        self._since_shortage = 0

    def row_ended(self) -> None:
        """Record that one more row has ended without a shortage of memory."""
        self._since_shortage += 1
        if self.limit < self._capacity and self._since_shortage >= GROW_AFTER:
            self.limit += 1
            self._since_shortage = 0
