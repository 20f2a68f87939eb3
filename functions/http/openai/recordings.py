"""Reference recordings in requests to `/v1`."""

import base64
import binascii
from collections.abc import Awaitable, Callable

from pipeline.audio.wav import EncodedRecording
from pipeline.clients.resources import Resources
from pipeline.domain import sessions
from pipeline.errors import InvalidInput


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

    Raises
    ------
    InvalidInput
        The text is not valid.
    """
    encoded = text.partition(";base64,")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            f"{field} should be a recording in base64, or a data: URL that contains base64.", field=field
        ) from error
