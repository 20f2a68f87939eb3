"""Polls for the end of running jobs by others, and for their new subscribers."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from gpu_runner.dependency_health import Sleep
from gpu_runner.streaming.audio_stream import AudioStream
from gpu_runner.synthesis.revocations import Revocations
from pipeline.clients.resources import Resources
from pipeline.clients.storage import Bucket
from pipeline.contract import layout
from pipeline.contract.records import Request, Subscriber
from pipeline.errors import Unavailable

POLL_SECONDS = 2.0
PAGE_KEYS = 100


class Watch:
    """Watches one job. Its subscribers receive the stream."""

    def __init__(
        self, resources: Resources, revocations: Revocations, request: Request, stream: AudioStream
    ) -> None:
        self._bucket = resources.bucket
        self._revocations = revocations
        self._request = request
        self.job_id = request.job_id
        self._stream = stream
        self._seen = set[str]()
        self._listings = asyncio.Queue[Collection[str]]()

    def listed(self, keys: Collection[str]) -> None:
        """Receive the keys of the job, as of now."""
        self._listings.put_nowait(keys)

    async def until_cancelled(self) -> None:
        """Wait until the job was cancelled or has ended. Its new subscribers are added meanwhile."""
        is_cancelled = False
        while not is_cancelled:
            keys = await self._listings.get()
            with suppress(Unavailable):
                is_cancelled = await self._is_cancelled(keys)

    async def is_cancelled(self) -> bool:
        """Return whether the job was cancelled or has ended, and add new subscribers: one listing."""
        return await self._is_cancelled([item.key async for item in self._bucket.list(layout.job(self.job_id))])

    async def _is_cancelled(self, keys: Collection[str]) -> bool:
        if self._revocations.covers(layout.reference(self._request).folder):
            return True
        if {layout.cancellation(self.job_id), layout.outcome(self.job_id)}.intersection(keys):
            return True
        new = {key for key in keys if key.startswith(layout.subscribers(self.job_id))} - self._seen
        for subscriber in await asyncio.gather(*map(self._read, new)):
            if subscriber and (subscriber.stream or subscriber.progress) and not self._is_creator(subscriber):
                self._stream.subscribe(subscriber)
        self._seen |= new
        return False

    async def _read(self, key: str) -> Subscriber | None:
        body = await self._bucket.get(key)
        return Subscriber.model_validate_json(body) if body else None

    def _is_creator(self, subscriber: Subscriber) -> bool:
        creator = self._request.subscriber
        return creator is not None and creator.stream and creator.reply_to == subscriber.reply_to


class Watches:
    """Polls for all running jobs together."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._running: dict[str, Watch] = {}
        self._is_running = asyncio.Event()

    @contextmanager
    def polling(self, watch: Watch) -> Iterator[None]:
        """Poll for a job while the context is open."""
        self._running[watch.job_id] = watch
        self._is_running.set()
        try:
            yield
        finally:
            del self._running[watch.job_id]

    async def poll_forever(self, sleep: Sleep) -> None:
        """Poll every `POLL_SECONDS` while jobs run."""
        while True:
            if not self._running:
                self._is_running.clear()
                await self._is_running.wait()
            await sleep(POLL_SECONDS)
            with suppress(Unavailable):
                keys = await keys_of_jobs(self._bucket, self._running)
                for job_id in keys.keys() & self._running.keys():
                    self._running[job_id].listed(keys[job_id])


async def keys_of_jobs(bucket: Bucket, job_ids: Iterable[str]) -> Mapping[str, Collection[str]]:
    """Return the keys of jobs. A request returns those of all jobs of about the same age."""
    found = {job_id: set[str]() for job_id in sorted(job_ids)}
    complete = ""
    """The last job of which all keys were listed."""
    for first in found:
        if first <= complete:
            continue
        count = 0
        async for item in bucket.list(layout.JOBS, start_after=layout.job(first), page_size=PAGE_KEYS):
            job_id = item.key.removeprefix(layout.JOBS).partition("/")[0]
            if job_id != complete and count >= PAGE_KEYS:
                break
            complete = job_id
            if job_id in found:
                found[job_id].add(item.key)
            count += 1
        else:
            break
    return found
