"""Reference recordings in requests to `/v1`."""

import base64
import binascii
from collections.abc import Awaitable, Callable

from pipeline.audio.wav import EncodedRecording
from pipeline.clients.resources import Resources
from pipeline.domain import sessions
from pipeline.errors import InvalidInput

_STEP = 1024 * 1024  # characters; a multiple of 4


async def check_recording(
    resources: Resources, read: Callable[[], Awaitable[bytes]], *, field: str
) -> EncodedRecording:
    """Validate a reference recording with `sessions.check_reference`; return it as WAV.

    Raises
    ------
    TooLarge, InvalidAudio
        It is not valid. The error names `field`.
    """
    try:
        return await sessions.check_reference(resources, read)
    except InvalidInput as error:
        error.field = field
        raise


def decode_base64(text: str, *, field: str) -> bytes:
    """Decode base64, or a `data:` URL that contains base64.

    Runs in steps, so that other threads can run meanwhile: a step holds Python's lock.

    Raises
    ------
    InvalidInput
        The text is not valid.
    """
    is_url = text[:5].lower() == "data:"
    header, _, data = text.partition(",") if is_url else ("", "", text)
    if is_url and not header.lower().endswith(";base64"):
        raise InvalidInput(
            f"{field} is a data: URL without base64; it should begin with data:audio/wav;base64,", field=field
        )
    encoded = data.encode("ascii", "replace").translate(None, b" \t\r\n").rstrip(b"=")
    try:
        if b"=" in encoded:
            raise binascii.Error("padding before the end")  # noqa: TRY301 - a step might end with it
        encoded += b"=" * (-len(encoded) % 4)
        steps = range(0, len(encoded), _STEP)
        return b"".join(base64.b64decode(encoded[start : start + _STEP], validate=True) for start in steps)
    except binascii.Error as error:
        raise InvalidInput(
            f"{field} should be a recording in base64, or a data: URL that contains base64.", field=field
        ) from error
