"""Reference recordings in requests to `/v1`."""

import base64
import binascii
from collections.abc import Awaitable, Callable

from pipeline.audio.wav import EncodedRecording
from pipeline.clients.resources import Resources
from pipeline.domain import sessions
from pipeline.errors import InvalidInput

_STEP = 1024 * 1024  # characters
_HEADER_MAX = 1024
_PADDING, _PADDING_MAX = "= \t\r\n", 16


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

    Whitespace is ignored, and the padding may be missing. Decodes in steps, so that other threads can run between
    them and a copy of the text is not needed.

    Raises
    ------
    InvalidInput
        The text is not valid.
    """
    start = 0
    if text[:5].lower() == "data:":
        start = text.find(",", 0, _HEADER_MAX) + 1
        if not text[:start].lower().endswith(";base64,"):
            raise InvalidInput(
                f"{field} is a data: URL without base64; it should begin with data:audio/wav;base64,", field=field
            )
    end = len(text)
    while end > start and text[end - 1] in _PADDING and len(text) - end < _PADDING_MAX:
        end -= 1
    decoded, rest = bytearray(), b""
    try:
        for position in range(start, end, _STEP):
            step = text[position : min(position + _STEP, end)].encode("ascii", "replace")
            encoded = rest + step.translate(None, b" \t\r\n")
            complete = len(encoded) - len(encoded) % 4
            # A step that ends with padding would be valid, although more follows.
            decoded += base64.b64decode(encoded[:complete].replace(b"=", b"?"), validate=True)
            rest = encoded[complete:]
        return bytes(decoded + base64.b64decode(rest + b"=" * (-len(rest) % 4), validate=True))
    except binascii.Error as error:
        raise InvalidInput(
            f"{field} should be a recording in base64, or a data: URL that contains base64.", field=field
        ) from error
