"""Audio as server-sent events of OpenAI's speech route (`stream_format: sse`)."""

import base64
import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from fastapi import Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from functions.http.previews.streaming import StreamedPreview
from pipeline.clients.resources import Resources
from pipeline.contract.records import Succeeded
from pipeline.domain import jobs

MEDIA_TYPE = "text/event-stream"

_FRAMES_PER_SECOND = 12.5  # the audio tokens of Qwen3-TTS


def as_events(response: Response, resources: Resources, job_id: str, text: str) -> Response:
    """Return the audio of a response as `speech.audio.delta` events, followed by `speech.audio.done`."""
    if isinstance(response, StreamedPreview):
        response.body_iterator = _events(response.body_iterator, resources, job_id, text)
        response.headers["Content-Type"] = MEDIA_TYPE
        return response
    events = StreamingResponse(_events(_once(response.body), resources, job_id, text), media_type=MEDIA_TYPE)
    kept = {name: value for name, value in response.headers.items() if name.startswith("x-")}
    events.headers.update(kept | {"Cache-Control": "private", "Content-Type": MEDIA_TYPE})
    return events


async def _once(body: bytes | memoryview) -> AsyncIterator[bytes]:
    yield bytes(body)


async def _events(
    pieces: AsyncIterable[str | bytes | memoryview], resources: Resources, job_id: str, text: str
) -> AsyncIterator[bytes]:
    async for piece in pieces:
        assert not isinstance(piece, str)  # noqa: S101 - audio is bytes
        if piece:
            yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()})
    yield _event({"type": "speech.audio.done", "usage": await _usage(resources, job_id, text)})


def _event(data: dict[str, Any]) -> bytes:
    return format_sse_event(data_str=json.dumps(data))


async def _usage(resources: Resources, job_id: str, text: str) -> dict[str, int]:
    """Return the usage: characters of the text as input, frames of audio as output."""
    outcome = await jobs.read_outcome(resources, job_id)
    preview = outcome.preview if isinstance(outcome, Succeeded) else None
    frames = round(preview.duration_seconds * _FRAMES_PER_SECOND) if preview else 0
    return {"input_tokens": len(text), "output_tokens": frames, "total_tokens": len(text) + frames}
