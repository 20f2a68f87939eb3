"""Reference recordings in requests to `/v1`."""

import base64
import binascii
from collections.abc import Awaitable, Callable
from itertools import chain

from functions.http.routing.long_field import LongValue
from pipeline.audio.wav import EncodedRecording
from pipeline.clients.resources import Resources
from pipeline.domain import sessions
from pipeline.errors import InvalidInput

_HEADER_MAX = 1024


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


def decode_base64(text: str | LongValue, *, field: str) -> bytes:
    """Decode base64, or a `data:` URL that contains base64.

    Whitespace is ignored, and the padding may be missing. Decodes in steps, so that other threads can run between
    them.

    Raises
    ------
    InvalidInput
        The text is not valid.
    """
    steps = text.steps() if isinstance(text, LongValue) else iter([text.encode("ascii", "replace")])
    first = next(steps, b"")
    if first[:5].lower() == b"data:":
        start = first.find(b",", 0, _HEADER_MAX) + 1
        if not first[:start].lower().endswith(b";base64,"):
            raise InvalidInput(
                f"{field} is a data: URL without base64; it should begin with data:audio/wav;base64,", field=field
            )
        first = first[start:]
    decoded, rest, padding = bytearray(), b"", b""
    try:
        for step in chain([first], steps):
            encoded = padding + step.translate(None, b" \t\r\n")
            stripped = encoded.rstrip(b"=")
            padding = encoded[len(stripped) :][:3]  # valid at the end only
            encoded = rest + stripped.replace(b"=", b"?")
            complete = len(encoded) - len(encoded) % 4
            decoded += base64.b64decode(encoded[:complete], validate=True)
            rest = encoded[complete:]
        return bytes(decoded + base64.b64decode(rest + b"=" * (-len(rest) % 4), validate=True))
    except binascii.Error as error:
        raise InvalidInput(
            f"{field} should be a recording in base64, or a data: URL that contains base64.", field=field
        ) from error
