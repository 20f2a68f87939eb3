"""The number of jobs that wait for a worker: read rarely, and never for a fast preview."""

import asyncio
from datetime import datetime, timedelta

import structlog

from pipeline.clients.resources import Resources
from pipeline.errors import QueueFull, Unavailable

log = structlog.get_logger(__name__)

_FRESH = timedelta(seconds=5)
_READ_SECONDS = 1.0  # the most that it may delay a response
_LONGEST_RETRY_SECONDS = 30
_AGE_PER_RETRY = 5


class QueueDepth:
    """The depth of the synthesis queue, cached for a few seconds."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._reading = asyncio.Lock()
        self._read_at: datetime | None = None
        self._depth: int | None = None

    async def ahead(self) -> int | None:
        """Return the approximate number of jobs that wait before a new one; None if the queue does not respond."""
        async with self._reading:
            if self._read_at is None or self._resources.clock() - self._read_at >= _FRESH:
                self._depth = await self._read()
                # The time at the end of the read: callers that waited for it use its result, however long it took.
                self._read_at = self._resources.clock()
        return None if self._depth is None else max(0, self._depth - 1)

    async def require_room(self, *, read_first: bool = False) -> None:
        """Check that a new job may wait, by the depth as last read.

        It is read for each response to a client that has to wait.  So HTTP needs no other read while the queue is
        short; `read_first` is for responses that do not contain it.

        Raises
        ------
        QueueFull
            Too many jobs wait.
        """
        limit = self._resources.settings.jobs_waiting
        if limit and read_first:
            await self.ahead()
        if limit == 0 or self._depth is None or self._depth < limit:
            return
        await self.ahead()
        if self._depth is not None and self._depth >= limit:
            raise QueueFull("Too many jobs wait. Try again later.", retry_after=_LONGEST_RETRY_SECONDS)

    async def _read(self) -> int | None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                return await self._resources.synthesis.depth()
        except (Unavailable, TimeoutError) as error:
            log.warning("queue depth unknown", reason=str(error) or "no answer in time")
            return None

    def retry_seconds(self, created_at: datetime, ahead: int | None) -> int:
        """Return the seconds until a job should be polled again: more for a longer queue and a longer wait.

        A worker processes a batch in about a second; while none runs, a job that has waited long will wait longer.
        """
        age = self._resources.clock() - created_at
        by_age = int(age.total_seconds() / _AGE_PER_RETRY)
        by_place = 1 + (ahead or 0) // self._resources.settings.worker_batch_size
        return min(max(by_place, by_age), _LONGEST_RETRY_SECONDS)
