"""Watches for requests about a job while its audio is generated: cancellation, or a subscription."""

import asyncio
from contextlib import suppress

from gpu_runner.synthesis.audio_stream import AudioStream
from gpu_runner.synthesis.context import WorkerContext
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import Request, Subscriber
from pipeline.errors import Unavailable

POLL_SECONDS = 2.0


async def until_cancelled(context: WorkerContext, request: Request, stream: AudioStream) -> None:
    """Add new subscribers to the stream until the job is cancelled: one listing every `POLL_SECONDS`."""
    prefix, seen = layout.subscribers(request.job_id), set[str]()
    while True:
        await context.sleep(POLL_SECONDS)
        with suppress(Unavailable):
            keys = {item.key async for item in context.resources.bucket.list(layout.job(request.job_id))}
            if layout.cancellation(request.job_id) in keys:
                return
            new = {key for key in keys if key.startswith(prefix)} - seen
            for subscriber in await asyncio.gather(*(_read(context.resources, key) for key in new)):
                if subscriber and subscriber.stream and not _is_maker(subscriber, request):
                    stream.subscribe(subscriber)
            seen |= new


async def _read(resources: Resources, key: str) -> Subscriber | None:
    body = await resources.bucket.get(key)
    return Subscriber.model_validate_json(body) if body else None


def _is_maker(subscriber: Subscriber, request: Request) -> bool:
    maker = request.subscriber
    return maker is not None and maker.stream and maker.reply_to == subscriber.reply_to
