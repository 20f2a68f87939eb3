"""Recordings in requests of OpenAI's clients."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from pipeline.audio.wav import EncodedRecording
from pipeline.clients.resources import Resources
from pipeline.domain import sessions
from pipeline.errors import InvalidInput


async def check_recording(
    resources: Resources, read: Callable[[], Awaitable[bytes]], *, field: str
) -> EncodedRecording:
    """Return a recording as WAV, if it is valid as a reference; see `sessions.check_reference`.

    Raises
    ------
    TooLarge, InvalidAudio
        It is not; `field` is the field that the client sent it in.
    """
    with _errors_of(field):
        return await sessions.check_reference(resources, read)


def decode_base64(text: str, *, field: str) -> bytes:
    """Return the bytes of a base64 string, or of a `data:` URL with one.

    Raises
    ------
    InvalidInput
        It is neither.
    """
    encoded = text.partition(";base64,")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            f"{field} should be a recording in base64, or a data: URL with one.", field=field
        ) from error


@contextmanager
def _errors_of(field: str) -> Iterator[None]:
    try:
        yield
    except InvalidInput as error:
        error.field = field
        raise
