"""Responses with the stored audio of a preview: whole, a range, in another format, or a redirect to the storage."""

import re
from datetime import datetime
from typing import Annotated

from fastapi import Query, Response
from starlette.types import Receive

from functions.http.parameters.ranges import FileRequest
from functions.http.responses.disconnects import run_until_disconnect
from functions.http.responses.files import UnsatisfiableRange, file_part, http_date, read_file
from functions.http.services import Services
from pipeline.access.owners import owns
from pipeline.audio.output_formats import OutputFormat
from pipeline.audio.wav import WAV
from pipeline.clients.resources import Resources
from pipeline.clients.storage import ObjectInfo, StoredObject
from pipeline.contract import layout, records, retention
from pipeline.contract.layout import audio_url
from pipeline.domain import jobs, presigned_urls
from pipeline.domain.presigned_urls import DISPOSITION
from pipeline.errors import NotFound, NotReady, TooLarge
from pipeline.ids import Owner, is_id
from pipeline.settings import Settings

Signed = Annotated[
    bool, Query(description="Return a link that needs no key and is valid until the preview expires")
]


async def stored_preview(
    services: Services, owner: Owner, job_id: str, request: FileRequest, *, signed: bool, without_body: bool
) -> Response:
    """Return the response with a preview as it is stored.

    Parameters
    ----------
    services, owner, job_id, request
        The preview, its owner, and the requested range.
    signed
        Redirect to a link that needs no key.
    without_body
        The request method is HEAD.

    Raises
    ------
    NotFound, NotReady, Expired
        There is no such preview, not yet, or no longer.
    """
    resources = services.resources
    key = await _preview_key(services, owner, job_id)
    if without_body or signed or request.if_none_match:
        info, expires_at = await _head(services, owner, job_id, key)
        headers = _file_headers(info, expires_at)
        if request.client_has(info.etag):
            return Response(status_code=304, headers=headers)
        if without_body:
            return Response(headers=headers | {"Content-Length": str(info.size)}, media_type=WAV)
        if signed:
            return await redirect(resources, job_id, expires_at)
    try:
        part = await read_file(resources.bucket, key, request, max_bytes=resources.settings.answer_max_bytes)
    except UnsatisfiableRange as error:
        retention.check_preview(error.last_modified, resources.settings, resources.clock())
        raise
    if part is None:
        raise await _absence(services, owner, job_id)
    expires_at = retention.check_preview(part.stored.last_modified, resources.settings, resources.clock())
    if not part.is_complete:
        return await redirect(resources, job_id, expires_at)
    return part.response(_file_headers(part.stored, expires_at), WAV)


async def transcoded_preview(
    services: Services, owner: Owner, job_id: str, format_: OutputFormat, request: FileRequest, receive: Receive
) -> Response:
    """Return the response with a preview in another format, or at another speed, than it is stored in.

    Raises
    ------
    NotFound, NotReady, Expired
        There is no such preview, not yet, or no longer; or it is still being encoded.
    TooMany
        Too many previews are being encoded.
    TooLarge
        It exceeds the size limit of a response.
    ClientDisconnect
        The client has disconnected; the encoding is cancelled unless another client waits for it.
    """
    resources = services.resources
    key = await _preview_key(services, owner, job_id)
    info, expires_at = await _head(services, owner, job_id, key)
    # The digest makes the ETag strong, as `If-Range` requires. Any encoding of the same audio is fresh.
    prefix = f"{info.etag[:-1]}-{format_.name}" + (f"-{format_.speed:g}" if format_.speed != 1 else "")
    headers = _file_headers(info, expires_at) | audio_headers(job_id, format_)
    fresh = re.compile(rf'{re.escape(prefix)}(-[0-9a-f]{{16}})?"')
    for etag in request.etags:
        if etag == "*" or fresh.fullmatch(etag):
            return Response(status_code=304, headers=headers | {"ETag": f'{prefix}"' if etag == "*" else etag})

    async def read() -> bytes:
        wav = await resources.bucket.get(key)
        if wav is None:
            raise retention.preview_expired()
        return wav

    encoding = services.transcoder.file(job_id, format_, read, owner=owner, expires_at=expires_at, is_charged=True)
    file = await run_until_disconnect(receive, encoding)
    whole = StoredObject(
        file.body, f'{prefix}-{file.digest}"', info.last_modified, format_.media_type, len(file.body)
    )
    part = file_part(whole, request)
    _check_size(part.stored.body, format_, resources.settings)
    return part.response(headers, format_.media_type)


async def linked_preview(resources: Resources, job_id: str, request: FileRequest) -> Response:
    """Return the response to a signed link with a verified signature.

    Raises
    ------
    Expired
        The preview has been deleted.
    """
    part = await read_file(resources.bucket, layout.preview(job_id), request, max_bytes=0)
    if part is None:
        raise retention.preview_expired()
    return part.response({"Cache-Control": "private", "Content-Disposition": DISPOSITION}, WAV)


async def _preview_key(services: Services, owner: Owner, job_id: str) -> str:
    if not is_id(job_id):
        raise NotFound(f"There is no preview {job_id[:64]!r}.", field="job_id")
    if not owns(owner, job_id):
        raise await _absence(services, owner, job_id)
    return layout.preview(job_id)


async def _head(services: Services, owner: Owner, job_id: str, key: str) -> tuple[ObjectInfo, datetime]:
    """Return the metadata and the expiry of a preview."""
    resources = services.resources
    info = await resources.bucket.head(key)
    if info is None:
        raise await _absence(services, owner, job_id)
    return info, retention.check_preview(info.last_modified, resources.settings, resources.clock())


async def _absence(services: Services, owner: Owner, job_id: str) -> Exception:
    """Return the error that explains why a job has no audio."""
    resources, queue_depth = services.resources, services.queue_depth
    if retention.job_expires_at(job_id, resources.settings) <= resources.clock():
        return retention.preview_expired()
    job = await jobs.read(resources, owner, job_id)
    if job.status == "queued":
        retry_after = queue_depth.retry_seconds(job.created_at, await queue_depth.ahead())
        return NotReady("The preview is not ready yet.", field="job_id", retry_after=retry_after)
    if isinstance(job.outcome, records.Failed):
        return NotFound(f"The job failed: {job.outcome.message}", field="job_id")
    return retention.preview_expired()


async def redirect(
    resources: Resources, job_id: str, expires_at: datetime, headers: dict[str, str] | None = None
) -> Response:
    """Return a redirect to the storage, valid until the preview expires."""
    url = await presigned_urls.signed(resources, job_id, expires_at)
    location = {"Location": url, "Expires": http_date(expires_at), "Cache-Control": "private"}
    return Response(status_code=303, headers=location | (headers or {}))


def audio_headers(job_id: str, format_: OutputFormat) -> dict[str, str]:
    """Return the headers of every response with the audio of a job."""
    headers = {
        "Cache-Control": "private",
        "Content-Disposition": f'inline; filename="preview.{format_.name}"',
        "Vary": "Accept",
    }
    # Audio at another speed has no URL of its own.
    return headers | ({"Content-Location": audio_url(job_id, format_.name)} if format_.speed == 1 else {})


def _file_headers(stored: ObjectInfo | StoredObject, expires_at: datetime) -> dict[str, str]:
    return {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private",
        "Content-Disposition": DISPOSITION,
        "ETag": stored.etag,
        "Expires": http_date(expires_at),
        "Last-Modified": http_date(stored.last_modified),
    }


async def encoded_audio(
    services: Services, owner: Owner, job_id: str, wav: bytes, format_: OutputFormat, expires_at: datetime
) -> bytes:
    """Return the audio of a new preview in the format that its request prefers.

    Raises
    ------
    NotReady, TooMany
        The encoding takes too long, or too many previews are being encoded.
    TooLarge
        It exceeds the size limit of a response.
    """

    async def read() -> bytes:
        return wav

    file = await services.transcoder.file(
        job_id, format_, read, owner=owner, expires_at=expires_at, is_charged=False
    )
    _check_size(file.body, format_, services.resources.settings)
    return file.body


def _check_size(body: bytes, format_: OutputFormat, settings: Settings) -> None:
    if settings.answer_max_bytes and len(body) > settings.answer_max_bytes:
        raise TooLarge(f"The preview is too large for a response in {format_.name}; request mp3.", field="format")
