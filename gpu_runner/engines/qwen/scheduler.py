"""Selects the waiting rows to admit next, and limits the rows in flight to the number that memory allows."""

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence

from gpu_runner.engines.qwen.job import Row

GROW_AFTER = 32  # rows that end without a shortage of memory until the limit grows by one


class Scheduler:
    """The waiting rows."""

    def __init__(self, capacity: int) -> None:
        self.limit = capacity
        self._capacity = capacity
        self._waiting: list[Row] = []
        self._since_shortage = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Append rows to the queue."""
        self._waiting += rows

    def preempt(self, rows: Sequence[Row]) -> None:
        """Put rows that were in flight back to the front of the queue."""
        self._waiting = [*rows, *self._waiting]

    def remove(self, job_id: str) -> None:
        """Drop the rows of a job."""
        self._waiting = [row for row in self._waiting if row.job_id != job_id]

    def schedule(self, in_flight: Iterable[Row]) -> list[Row]:
        """Return the rows that may be admitted, in order.

        Jobs with fewer rows in flight precede long texts. Otherwise the order is first in, first out.
        """
        if not self._waiting:
            return []
        running = Counter(row.job_id for row in in_flight)
        free = self.limit - running.total()
        if free <= 0:
            return []
        waiting = defaultdict[str, deque[tuple[int, Row]]](deque)
        for position, row in enumerate(self._waiting):
            waiting[row.job_id].append((position, row))
        heap = [(running[job_id], rows[0][0], job_id) for job_id, rows in waiting.items()]
        heapq.heapify(heap)
        scheduled = list[Row]()
        while heap and len(scheduled) < free:
            count, _, job_id = heapq.heappop(heap)
            scheduled.append(waiting[job_id].popleft()[1])
            if rows := waiting[job_id]:
                heapq.heappush(heap, (count + 1, rows[0][0], job_id))
        return scheduled

    def withdraw(self, row: Row) -> None:
        """Remove a row from the queue, if it waits."""
        if row in self._waiting:
            self._waiting.remove(row)

    def shrink(self, limit: int) -> None:
        """Limit the rows in flight after a shortage of memory."""
        self.limit = max(1, limit)
        self._since_shortage = 0

    def finish_row(self) -> None:
        """Count a row that has ended without a shortage of memory."""
        self._since_shortage += 1
        if self.limit < self._capacity and self._since_shortage >= GROW_AFTER:
            self.limit += 1
            self._since_shortage = 0
