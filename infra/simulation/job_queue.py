"""The synthesis queue: its order of service, and the limit on each owner's previews in flight."""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol

NOISY_SHARE = 2.0  # AWS does not document when a tenant is noisy; here: at twice its fair share


class JobQueue(Protocol):
    """A queue of jobs, identified by number."""

    def __len__(self) -> int: ...

    def put(self, job: int) -> None:
        """Add a job to the queue, or return one to it."""

    def receive(self) -> int | None:
        """Remove and return the next job; None if there is none."""

    def delete(self, job: int) -> None:
        """Record that a received job is no longer in flight."""


class FifoQueue:
    """First in, first out, which approximates a queue without message groups."""

    def __init__(self) -> None:
        self._waiting = deque[int]()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, job: int) -> None:
        """See `JobQueue.put`."""
        self._waiting.append(job)

    def receive(self) -> int | None:
        """See `JobQueue.receive`."""
        return self._waiting.popleft() if self._waiting else None

    def delete(self, job: int) -> None:
        """See `JobQueue.delete`."""


class FairQueue:
    """An SQS fair queue: if one owner has far more than its share in flight, other owners are served first."""

    def __init__(self, owners: Sequence[int]) -> None:
        self._owners = owners
        self._waiting: dict[int, deque[int]] = {}
        self._in_flight = Counter[int]()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, job: int) -> None:
        """See `JobQueue.put`."""
        self._waiting.setdefault(self._owners[job], deque()).append(job)
        self._count += 1

    def receive(self) -> int | None:
        """See `JobQueue.receive`."""
        if not self._count:
            return None
        owner = self._next_owner()
        waiting = self._waiting[owner]
        job = waiting.popleft()
        if not waiting:
            del self._waiting[owner]
        self._in_flight[owner] += 1
        self._count -= 1
        return job

    def delete(self, job: int) -> None:
        """See `JobQueue.delete`."""
        owner = self._owners[job]
        self._in_flight[owner] -= 1
        if not self._in_flight[owner]:
            del self._in_flight[owner]

    def _next_owner(self) -> int:
        """Return the owner of the oldest job among those that are not noisy, or among all if every owner is."""
        active = len(self._waiting.keys() | self._in_flight.keys())
        bound = NOISY_SHARE * self._in_flight.total() / active
        quiet = [owner for owner in self._waiting if active == 1 or self._in_flight[owner] <= bound]
        return min(quiet or self._waiting, key=lambda owner: self._waiting[owner][0])


class InFlightLimit:
    """Limits an owner's previews in flight; None: no limit."""

    def __init__(self, owners: Sequence[int], limit: int | None) -> None:
        self._owners = owners
        self._limit = limit
        self._in_flight = Counter[int]()

    def admit(self, job: int) -> bool:
        """Admit a preview and return True, or reject it (429) and return False."""
        owner = self._owners[job]
        if self._limit is not None and self._in_flight[owner] >= self._limit:
            return False
        self._in_flight[owner] += 1
        return True

    def release(self, job: int) -> None:
        """Record the end of a preview."""
        self._in_flight[self._owners[job]] -= 1
