"""Sessions: a reference recording with its transcription, kept for half a day from the session's birth."""

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.access.owners import new_id, owns
from pipeline.access.quotas import Quotas
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


def check_transcription(transcription: str, settings: Settings) -> str:
    """Take a transcription, which may be blank: then the voice is cloned from its sound alone.

    Raises
    ------
    InvalidInput
        It is too long.
    """
    if len(transcription) > settings.transcription_max_chars:
        raise InvalidInput(
            f"transcription has {len(transcription)} characters; "
            f"it should have at most {settings.transcription_max_chars}.",
            field="transcription",
        )
    return transcription.strip()


async def check_reference(resources: Resources, read: Callable[[], Awaitable[bytes]]) -> EncodedRecording:
    """Read an uploaded recording and return it as WAV, if it is fit to be a reference.

    It is read, decoded and encoded while `resources.decoding` is held, so that memory is bounded however many
    uploads come at once.

    Raises
    ------
    TooLarge, InvalidAudio
        What was wrong and what would be right.
    """
    # numpy and libsndfile take a quarter of a function's start, and most calls bring no recording.
    from pipeline.audio.reference_audio import transcode_reference

    settings = resources.settings
    async with resources.decoding:
        data = await read()
        if len(data) > settings.reference_max_bytes:
            raise too_large(settings)
        return await asyncio.to_thread(transcode_reference, data, settings)


def too_large(settings: Settings) -> TooLarge:
    """Say how large a recording may be."""
    return TooLarge(
        f"The recording is too large; it should have at most {settings.reference_max_megabytes:g} MB.",
        field="audio",
    )


def objects(session_id: str, recording: EncodedRecording, transcription: str) -> list[NewObject]:
    """Give what is stored of a session; without all of it the session is of no use."""
    keys = layout.session(session_id)
    audio = NewObject(keys.audio, recording.wav, WAV)
    if not transcription:
        return [audio]
    return [audio, NewObject(keys.transcription, transcription.encode(), TEXT)]


async def store(
    resources: Resources, owner: Owner, session_id: str, recording: EncodedRecording, transcription: str
) -> None:
    """Write a checked reference.

    Raises
    ------
    TooMany
        It is more than what is left of the owner's share.
    """
    await Quotas(resources, resources.clock).take_reference_seconds(owner, recording.duration_seconds)
    new = objects(session_id, recording, transcription)
    await asyncio.gather(*(resources.bucket.put(one.key, one.body, one.content_type) for one in new))


async def open_upload(
    resources: Resources, owner: Owner, transcription: str, content_type: str = WAV
) -> tuple[str, UploadForm]:
    """Make a session whose recording the client will post to the storage itself.

    The form is of use no longer than the session.
    """
    session_id = new_id(resources.new_id, owner)
    keys = layout.session(session_id)
    if transcription:
        await resources.bucket.put(keys.transcription, transcription.encode(), TEXT)
    form = await presigned_urls.upload_form(resources, session_id, content_type)
    return session_id, form


async def store_unchecked(resources: Resources, session_id: str, data: bytes) -> None:
    """Store what was uploaded by a form; it is checked at its first use.

    Raises
    ------
    TooLarge
        It is larger than a reference may be.
    """
    if len(data) > resources.settings.reference_max_bytes:
        raise too_large(resources.settings)
    await resources.bucket.put(layout.session(session_id).unchecked_audio, data, "application/octet-stream")


async def require(resources: Resources, owner: Owner, session_id: str) -> None:
    """Make sure that a session can be used by its owner now.

    What came by presigned POST is looked at here, at its first use.

    Raises
    ------
    InvalidInput
        Not the id of a session.
    NotFound
        No such session, or nothing has been uploaded to it, or it is somebody else's.
    Expired
        Its time is over.
    InvalidAudio
        What was uploaded to it is no reference.
    TooMany
        It is more than what is left of the owner's share.
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
    quotas = Quotas(resources, resources.clock)
    await quotas.take_reference_seconds(owner, recording.duration_seconds)
    # Once: what has been used stays, though the form lets the client upload something else.
    if await resources.bucket.put_once(keys.audio, recording.wav, WAV) is None:
        # Another first use, at the same moment, has counted it too.
        await quotas.return_reference_seconds(owner, recording.duration_seconds)


def _unknown(session_id: str) -> NotFound:
    return NotFound(f"There is no session {session_id}; upload a reference first.", field="session_id")


def expired(session_id: str, settings: Settings) -> Expired:
    """Say that a session's time is over."""
    moment = format_utc(retention.upload_expires_at(session_id, settings))
    return Expired(f"The session expired at {moment}; upload the reference again.", field="session_id")
