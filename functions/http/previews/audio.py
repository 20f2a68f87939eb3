"""The stored audio of a preview: ranges, redirects, formats, and the error when there is none."""

import asyncio
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated, TypeVar

from fastapi import Query, Response

from functions.http.parameters.ranges import WHOLE, Span
from functions.http.responses import problems
from functions.previews.queue_depth import QueueDepth
from functions.previews.urls import audio_url
from pipeline.access.owners import owns
from pipeline.audio.output_formats import OutputFormat, transcode
from pipeline.audio.wav import WAV
from pipeline.clients.resources import Resources
from pipeline.clients.storage import ObjectInfo, PreconditionFailed, StoredObject
from pipeline.contract import layout, records, retention
from pipeline.domain import jobs, presigned_urls
from pipeline.domain.presigned_urls import DISPOSITION
from pipeline.errors import NotFound, NotReady, TooLarge
from pipeline.ids import Owner, is_id
from pipeline.settings import Settings

FoundT = TypeVar("FoundT", ObjectInfo, StoredObject)

Signed = Annotated[bool, Query(description="Give a link that needs no key, and ends with the preview")]


def preview_key(owner: Owner, job_id: str) -> str | None:
    """Return the key of a preview; None for a job that belongs, or may belong, to another owner."""
    if not is_id(job_id):
        raise NotFound(f"There is no preview {job_id[:64]!r}.", field="job_id")
    return layout.preview(job_id) if owns(owner, job_id) else None


async def kept(
    resources: Resources, owner: Owner, queue_depth: QueueDepth, job_id: str, found: FoundT | None
) -> tuple[FoundT, datetime]:
    """Return the object and its expiry; raise the error that explains why it does not exist, or no longer."""
    if found is None:
        await _explain_absence(resources, owner, queue_depth, job_id)
        raise retention.preview_expired()
    return found, retention.check_preview(found.last_modified, resources.settings, resources.clock())


def served_headers(stored: ObjectInfo | StoredObject, expires_at: datetime) -> dict[str, str]:
    """Return the headers of a response that serves the stored WAV."""
    return {
        "Accept-Ranges": "bytes",
        "Content-Disposition": DISPOSITION,
        "ETag": stored.etag,
        "Expires": http_date(expires_at),
        "Last-Modified": http_date(stored.last_modified),
        "Cache-Control": "private",
    }


def served(wanted: Span | None, stored: StoredObject, headers: dict[str, str]) -> Response:
    """Return the response with the stored WAV, or with the requested range of it."""
    if wanted is not None and stored.content_range:
        headers = headers | {"Content-Range": stored.content_range}
        return Response(stored.body, 206, headers, media_type=WAV)
    return Response(stored.body, 200, headers, media_type=WAV)


async def read_range(
    resources: Resources, key: str, wanted: Span | None, if_range: str | None
) -> tuple[Span | None, StoredObject | None]:
    """Read the requested range, or all of it if `If-Range` does not match; return which it was."""
    settings = resources.settings
    if if_range and not if_range.startswith('"'):
        # A date, or a weak ETag, which RFC 9110 does not allow as the condition of a range.
        wanted = None
    try:
        condition = if_range if wanted else None
        return wanted, await resources.bucket.read(
            key, range_=asked_of_storage(wanted, settings), if_match=condition
        )
    except PreconditionFailed:
        return None, await resources.bucket.read(key, range_=asked_of_storage(None, settings))


async def _explain_absence(resources: Resources, owner: Owner, queue_depth: QueueDepth, job_id: str) -> None:
    """Raise the error for a job without audio; return if it had audio that has expired."""
    if retention.job_expires_at(job_id, resources.settings) <= resources.clock():
        return
    job = await jobs.read(resources, owner, job_id)
    if job.status == "queued":
        retry_after = queue_depth.retry_seconds(job.created_at, await queue_depth.ahead())
        raise NotReady("The preview is not ready yet.", field="job_id", retry_after=retry_after)
    if isinstance(job.outcome, records.Failed):
        raise NotFound(f"The job made no preview: {job.outcome.message}", field="job_id")


async def not_satisfiable(resources: Resources, job_id: str) -> Response:
    """Return the 416 for a range outside of the preview."""
    info = await resources.bucket.head(layout.preview(job_id))
    if info is None:
        raise retention.preview_expired()
    retention.check_preview(info.last_modified, resources.settings, resources.clock())
    size = info.size
    answer = problems.response(416, "range_not_satisfiable", f"The preview has {size} bytes.")
    answer.headers["Content-Range"] = f"bytes */{size}"
    return answer


def names(if_none_match: str, etag: str) -> bool:
    """Return whether an `If-None-Match` header contains an ETag."""
    given = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return etag in given or "*" in given


def asked_of_storage(wanted: Span | None, settings: Settings) -> str | None:
    """Return the range to request from the storage: at most as much as a response can have."""
    limit = settings.answer_max_bytes
    return (wanted or WHOLE).header(limit) if wanted or limit else None


def is_all(wanted: Span | None, stored: StoredObject) -> bool:
    """Return whether all that was requested was read."""
    return stored.content_range is None or (wanted or WHOLE).is_met_by(stored.content_range)


async def elsewhere(
    resources: Resources, job_id: str, expires_at: datetime, headers: dict[str, str] | None = None
) -> Response:
    """Return a redirect to the storage, valid until the preview expires."""
    url = await presigned_urls.signed(resources, job_id, expires_at)
    there = {"Location": url, "Expires": http_date(expires_at), "Cache-Control": "private"}
    return Response(status_code=303, headers=there | (headers or {}))


def audio_headers(job_id: str, format_: OutputFormat) -> dict[str, str]:
    """Return the headers of a response with audio."""
    headers = {
        "Cache-Control": "private",
        "Content-Disposition": f'inline; filename="preview.{format_.name}"',
        "Vary": "Accept",
    }
    # At another speed, it is at no other address.
    return headers | ({"Content-Location": audio_url(job_id, format_.name)} if format_.speed == 1 else {})


async def transcoded(wav: bytes, format_: OutputFormat, settings: Settings) -> bytes:
    """Return the stored audio in another format.

    Raises
    ------
    TooLarge
        It exceeds the size limit of a response.
    """
    if format_.is_as_stored:
        return wav
    body = await asyncio.to_thread(transcode, wav, format_)
    if settings.answer_max_bytes and len(body) > settings.answer_max_bytes:
        raise TooLarge(f"As {format_.name} the preview is too large to be answered; ask for mp3.", field="format")
    return body


def http_date(moment: datetime) -> str:
    """Return a moment in the format of HTTP headers."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)
