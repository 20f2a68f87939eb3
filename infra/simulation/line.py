"""The synthesis queue: who waits, who is served next, and who has too many previews in flight to be let in."""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol

NOISY_SHARE = 2.0  # AWS does not say when a tenant is noisy; here: twice the share that were fair


class Line(Protocol):
    """Jobs that wait, by their number."""

    def __len__(self) -> int: ...

    def put(self, job: int) -> None:
        """Let a job wait, or wait again."""

    def take(self) -> int | None:
        """Give the job to be served next."""

    def leave(self, job: int) -> None:
        """Note that a job that was taken is no longer in flight."""


class Fifo:
    """First come, first served, as a queue without message groups roughly is."""

    def __init__(self) -> None:
        self._waiting = deque[int]()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, job: int) -> None:
        """See `Line.put`."""
        self._waiting.append(job)

    def take(self) -> int | None:
        """See `Line.take`."""
        return self._waiting.popleft() if self._waiting else None

    def leave(self, job: int) -> None:
        """See `Line.leave`."""


class Fair:
    """An SQS fair queue: while one owner has far more than its share in flight, the others go first."""

    def __init__(self, owners: Sequence[int]) -> None:
        self._owners = owners
        self._waiting: dict[int, deque[int]] = {}
        self._in_flight = Counter[int]()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, job: int) -> None:
        """See `Line.put`."""
        self._waiting.setdefault(self._owners[job], deque()).append(job)
        self._count += 1

    def take(self) -> int | None:
        """See `Line.take`."""
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

    def leave(self, job: int) -> None:
        """See `Line.leave`."""
        owner = self._owners[job]
        self._in_flight[owner] -= 1
        if not self._in_flight[owner]:
            del self._in_flight[owner]

    def _next_owner(self) -> int:
        """The owner of the oldest job among those that are not noisy, or among all when everyone is."""
        active = len(self._waiting.keys() | self._in_flight.keys())
        bound = NOISY_SHARE * self._in_flight.total() / active
        quiet = [owner for owner in self._waiting if active == 1 or self._in_flight[owner] <= bound]
        return min(quiet or self._waiting, key=lambda owner: self._waiting[owner][0])


class Door:
    """Lets an owner have only so many previews that have not ended; None: any number."""

    def __init__(self, owners: Sequence[int], limit: int | None) -> None:
        self._owners = owners
        self._limit = limit
        self._inside = Counter[int]()

    def enter(self, job: int) -> bool:
        """Let a preview in, or refuse it as the API does with 429."""
        owner = self._owners[job]
        if self._limit is not None and self._inside[owner] >= self._limit:
            return False
        self._inside[owner] += 1
        return True

    def leave(self, job: int) -> None:
        """Note the end of a preview."""
        self._inside[self._owners[job]] -= 1
