"""The requested audio format: `format`, or otherwise `Accept` (RFC 9110, section 12.5.1)."""

import re
from typing import Annotated

from fastapi import Depends, Header, Query

from pipeline.audio.output_formats import FORMATS, FormatName, OutputFormat

# With other media types that browsers and players send.
_MEDIA_TYPES: dict[str, FormatName] = {
    **{format_.media_type: name for name, format_ in FORMATS.items()},
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/x-flac": "flac",
    "audio/mp3": "mp3",
    "audio/opus": "opus",
    "audio/aacp": "aac",
}
_QUALITY = re.compile(r";\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*(?:;|$)", re.IGNORECASE)


def accepted_format(accept: str) -> FormatName:
    """Return the format with the highest quality; WAV by default."""
    best, best_quality = "wav", 0.0
    for item in accept.split(","):
        name = item.partition(";")[0].strip().lower()
        found = "wav" if name in {"*/*", "audio/*"} else _MEDIA_TYPES.get(name)
        stated = _QUALITY.search(item)
        quality = float(stated[1]) if stated else 1.0
        if found is not None and quality > best_quality:
            best, best_quality = found, quality
    return FORMATS[best].name  # type: ignore[index]  # from `_MEDIA_TYPES`


async def _format(
    format_: Annotated[
        FormatName | None, Query(alias="format", description="Format of the audio. The default is that of `Accept`")
    ] = None,
    accept: Annotated[str, Header(description="Media types of the formats. The highest `q` is used")] = "",
) -> OutputFormat:
    return FORMATS[format_ or accepted_format(accept)]


FromFormat = Annotated[OutputFormat, Depends(_format)]
