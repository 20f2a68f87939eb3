"""Polls for the cancellation of a running job, and for new subscribers."""

import asyncio
from contextlib import suppress

from gpu_runner.dependency_health import Sleep
from gpu_runner.synthesis.audio_stream import AudioStream
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import Request, Subscriber
from pipeline.errors import Unavailable

POLL_SECONDS = 2.0


class Watch:
    """Watches one job. Its subscribers receive the stream."""

    def __init__(self, resources: Resources, request: Request, stream: AudioStream) -> None:
        self._bucket = resources.bucket
        self._request = request
        self._stream = stream
        self._seen = set[str]()

    async def is_cancelled(self) -> bool:
        """Return whether the job has been cancelled, and add new subscribers to the stream: one listing."""
        job_id = self._request.job_id
        keys = {item.key async for item in self._bucket.list(layout.job(job_id))}
        if layout.cancellation(job_id) in keys:
            return True
        new = {key for key in keys if key.startswith(layout.subscribers(job_id))} - self._seen
        for subscriber in await asyncio.gather(*map(self._read, new)):
            if subscriber and (subscriber.stream or subscriber.progress) and not self._is_creator(subscriber):
                self._stream.subscribe(subscriber)
        self._seen |= new
        return False

    async def until_cancelled(self, sleep: Sleep) -> None:
        """Poll every `POLL_SECONDS` until the job is cancelled."""
        is_cancelled = False
        while not is_cancelled:
            await sleep(POLL_SECONDS)
            with suppress(Unavailable):
                is_cancelled = await self.is_cancelled()

    async def _read(self, key: str) -> Subscriber | None:
        body = await self._bucket.get(key)
        return Subscriber.model_validate_json(body) if body else None

    def _is_creator(self, subscriber: Subscriber) -> bool:
        creator = self._request.subscriber
        return creator is not None and creator.stream and creator.reply_to == subscriber.reply_to
