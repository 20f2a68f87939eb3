"""Who flies next, and how many at a time: as many as memory has been seen to allow."""

from collections import Counter
from collections.abc import Sequence

from gpu_runner.engines.qwen.generation import Row

GROW_AFTER = 32  # parts spoken without a shortage of memory until one more at a time is tried


class Boarding:
    """The rows that wait, and the limit for those in flight."""

    def __init__(self, capacity: int) -> None:
        self.limit = capacity
        self._capacity = capacity
        self._waiting: list[Row] = []
        self._since_shortage = 0

    def wait(self, rows: Sequence[Row]) -> None:
        """Let rows wait behind all others."""
        self._waiting += rows

    def wait_first(self, rows: Sequence[Row]) -> None:
        """Let rows wait that have been in flight, or nearly."""
        self._waiting = [*rows, *self._waiting]

    def leave(self, job_id: str) -> None:
        """Drop the rows of a job."""
        self._waiting = [row for row in self._waiting if row.job_id != job_id]

    def clear(self) -> None:
        """Drop all rows."""
        self._waiting.clear()

    def call(self, flying: Sequence[Row]) -> Row | None:
        """Choose who joins those in flight; None when nobody may, for now."""
        row = self._next(flying) if self._waiting and len(flying) < self.limit else None
        if row is not None:
            self._waiting.remove(row)
        return row

    def _next(self, flying: Sequence[Row]) -> Row | None:
        if flying and flying[0].alone:
            return next((row for row in self._waiting if row.job_id == flying[0].job_id), None)
        # A long text gives way to those that have nothing in flight yet; otherwise first come, first served.
        taken = Counter(row.job_id for row in flying)
        row = min(self._waiting, key=lambda row: taken[row.job_id])
        return None if row.alone and flying else row

    def shrink(self, limit: int) -> None:
        """Learn that memory allows no more than so many."""
        self.limit = max(1, limit)
        self._since_shortage = 0

    def landed(self) -> None:
        """Learn that one more has been spoken without trouble."""
        self._since_shortage += 1
        if self.limit < self._capacity and self._since_shortage >= GROW_AFTER:
            self.limit += 1
            self._since_shortage = 0
