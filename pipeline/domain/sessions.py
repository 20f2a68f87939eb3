"""Sessions: a reference recording with its transcription, kept for half a day from the session's creation."""

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.access import rate_limits
from pipeline.access.owners import new_id, owns
from pipeline.audio.wav import WAV, EncodedRecording
from pipeline.clients.resources import Resources
from pipeline.clients.storage import NewObject, UploadForm
from pipeline.contract import layout, retention
from pipeline.contract.records import format_utc
from pipeline.domain import presigned_urls
from pipeline.errors import Expired, InvalidInput, NotFound, TooLarge
from pipeline.ids import Owner, is_id
from pipeline.settings import Settings

TEXT = "text/plain; charset=utf-8"


def check_transcription(transcription: str, settings: Settings, *, field: str = "transcription") -> str:
    """Return a transcription if it is valid. If it is blank, the voice is cloned from the audio only.

    Raises
    ------
    InvalidInput
        It is too long.
    """
    if len(transcription) > settings.transcription_max_chars:
        raise InvalidInput(
            f"{field} has {len(transcription)} characters. "
            f"It should have at most {settings.transcription_max_chars}.",
            field=field,
        )
    return transcription.strip()


async def check_reference(resources: Resources, read: Callable[[], Awaitable[bytes]]) -> EncodedRecording:
    """Read an uploaded recording and return it as WAV, if it is valid as a reference.

    It is read, decoded and encoded while `resources.decoding` is held, so that memory is bounded for any
    number of concurrent uploads.

    Raises
    ------
    TooLarge, InvalidAudio
        The recording is not valid.
    """
    # Importing numpy and libsndfile is a quarter of a cold start, and most requests have no recording.
    from pipeline.audio.reference_audio import transcode_reference

    settings = resources.settings
    async with resources.decoding:
        data = await read()
        if len(data) > settings.reference_max_bytes:
            raise too_large(settings)
        return await asyncio.to_thread(transcode_reference, data, settings)


def too_large(settings: Settings) -> TooLarge:
    """Return the error for a recording that is too large."""
    return TooLarge(
        f"The recording is too large. It should have at most {settings.reference_max_megabytes:g} MB.",
        field="audio",
    )


def objects(session_id: str, recording: EncodedRecording, transcription: str) -> list[NewObject]:
    """Return the objects of a session. It can't be used unless all of them are stored."""
    keys = layout.session(session_id)
    audio = NewObject(keys.audio, recording.wav, WAV)
    if not transcription:
        return [audio]
    return [audio, NewObject(keys.transcription, transcription.encode(), TEXT)]


async def store(
    resources: Resources, owner: Owner, session_id: str, recording: EncodedRecording, transcription: str
) -> None:
    """Store a validated reference.

    Raises
    ------
    TooMany
        It exceeds the rest of the owner's quota.
    """
    await rate_limits.take_reference_seconds(resources, owner, recording.duration_seconds)
    new = objects(session_id, recording, transcription)
    await asyncio.gather(*(resources.bucket.put(one.key, one.body, one.content_type) for one in new))


async def open_upload(
    resources: Resources, owner: Owner, transcription: str, content_type: str = WAV
) -> tuple[str, UploadForm]:
    """Create a session for a recording that the client will upload directly to the storage.

    The form expires no later than the session.
    """
    session_id = new_id(resources.new_id, owner)
    keys = layout.session(session_id)
    if transcription:
        await resources.bucket.put(keys.transcription, transcription.encode(), TEXT)
    form = await presigned_urls.upload_form(resources, session_id, content_type)
    return session_id, form


async def store_unchecked(resources: Resources, session_id: str, data: bytes) -> None:
    """Store a recording that was uploaded by a form. It is validated at its first use.

    Raises
    ------
    TooLarge
        It is larger than a reference may be.
    """
    if len(data) > resources.settings.reference_max_bytes:
        raise too_large(resources.settings)
    await resources.bucket.put(layout.session(session_id).unchecked_audio, data, "application/octet-stream")


async def require(resources: Resources, owner: Owner, session_id: str) -> None:
    """Check that a session can be used by its owner now.

    A recording that was uploaded by presigned POST is validated here, at its first use.

    Raises
    ------
    InvalidInput
        Not the id of a session.
    NotFound
        There is no such session, nothing has been uploaded to it, or it has another owner.
    Expired
        The session has expired.
    InvalidAudio
        The uploaded file is not valid as a reference.
    TooMany
        It exceeds the rest of the owner's quota.
    """
    if not is_id(session_id):
        raise InvalidInput("session_id should be 32 hex digits, as an upload answers it.", field="session_id")
    expires_at = retention.upload_expires_at(session_id, resources.settings)
    if expires_at <= resources.clock():
        raise expired(session_id, resources.settings)
    if not owns(owner, session_id):
        raise _unknown(session_id)
    keys = layout.session(session_id)
    if await resources.bucket.head(keys.audio):
        return

    async def read() -> bytes:
        unchecked = await resources.bucket.get(keys.unchecked_audio)
        if unchecked is None:
            raise _unknown(session_id)
        return unchecked

    recording = await check_reference(resources, read)
    await rate_limits.take_reference_seconds(resources, owner, recording.duration_seconds)
    # Written once: a reference that was used must not change, although the form allows another upload.
    if await resources.bucket.put_once(keys.audio, recording.wav, WAV) is None:
        # A concurrent first use has counted it too.
        await rate_limits.return_reference_seconds(resources, owner, recording.duration_seconds)


def _unknown(session_id: str) -> NotFound:
    return NotFound(f"There is no session {session_id}. Upload a reference first.", field="session_id")


def expired(session_id: str, settings: Settings) -> Expired:
    """Return the error for a session that has expired."""
    moment = format_utc(retention.upload_expires_at(session_id, settings))
    return Expired(f"The session expired at {moment}. Upload the reference again.", field="session_id")
