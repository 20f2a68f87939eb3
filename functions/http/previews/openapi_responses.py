"""The OpenAPI responses of the routes that return a preview's audio."""

from typing import Any

from functions.http.previews.job_view import JobView
from functions.http.responses import problems
from pipeline.audio.output_formats import FORMATS
from pipeline.audio.wav import WAV
from pipeline.errors import (
    Cancelled,
    DeadlineExceeded,
    Expired,
    InvalidInput,
    NotFound,
    SynthesisFailed,
    TooLarge,
    Unavailable,
)

_STRING: dict[str, Any] = {"schema": {"type": "string"}}
_AUDIO_CONTENT = {
    format_.media_type: {"schema": {"type": "string", "format": "binary"}} for format_ in FORMATS.values()
}
_WAV_CONTENT = {WAV: _AUDIO_CONTENT[WAV]}
_EXPIRES = {"description": "When the preview can no longer be had", **_STRING}
_CACHE_CONTROL = {"description": "`private`: a voice is somebody's own", **_STRING}
_APPLIED = {"description": "RFC 7240: which preference was honoured", **_STRING}

_OF_THE_JOB = {
    "X-Job-Id": {"description": "The job, when one was made", **_STRING},
    "X-Session-Id": {"description": "The session of the reference, when it is an upload", **_STRING},
    "Preference-Applied": _APPLIED,
}

_REDIRECTED = {
    "Expires": _EXPIRES,
    "Location": {"description": "The preview, at a signed URL that ends with it", **_STRING},
}

GENERATED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The preview",
        "content": _AUDIO_CONTENT,
        "headers": {
            "Cache-Control": _CACHE_CONTROL,
            "Content-Disposition": {"description": "Names `preview.wav`, or by its format", **_STRING},
            "Content-Location": {"description": "Where the preview can be had again", **_STRING},
            "Expires": {"description": "When the preview can no longer be had; not of a stream", **_STRING},
            "Vary": {"description": "`Accept`", **_STRING},
            **_OF_THE_JOB,
        },
    },
    202: {
        "description": "Not ready yet: the job goes on",
        "model": JobView,
        "headers": {
            "Location": {"description": "The job", **_STRING},
            "Retry-After": {"description": "Seconds after which to ask", "schema": {"type": "integer"}},
            **_OF_THE_JOB,
        },
    },
    303: {
        "description": "The preview is larger than an answer may be: it is to be had at `Location`",
        "headers": {
            "Cache-Control": _CACHE_CONTROL,
            "Content-Location": {"description": "Where the preview can be had again", **_STRING},
            **_REDIRECTED,
            **_OF_THE_JOB,
        },
    },
    **problems.answers(
        InvalidInput.code,
        NotFound.code,
        Expired.code,
        TooLarge.code,
        Cancelled.code,
        SynthesisFailed.code,
        DeadlineExceeded.code,
        Unavailable.code,
    ),
}
for _status in set(GENERATED) - {200, 202, 303}:
    # The error response also has the id of a job that failed or could not be waited for.
    GENERATED[_status] = GENERATED[_status] | {"headers": _OF_THE_JOB}

_AUDIO_HEADERS = {
    "Accept-Ranges": {"description": "`bytes`", **_STRING},
    "Cache-Control": _CACHE_CONTROL,
    "Content-Disposition": {"description": "Names `preview.wav`", **_STRING},
    "ETag": {"description": "Version of the audio", **_STRING},
    "Expires": _EXPIRES,
    "Last-Modified": {"description": "When it was made", **_STRING},
}
SERVED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The preview", "content": _WAV_CONTENT, "headers": _AUDIO_HEADERS},
    206: {
        "description": "The range asked for",
        "content": _WAV_CONTENT,
        "headers": {**_AUDIO_HEADERS, "Content-Range": {"description": "Which range of how much", **_STRING}},
    },
    304: {"description": "The client has this version", "headers": _AUDIO_HEADERS},
    303: {
        "description": "What is asked for is larger than an answer may be: it is to be had at `Location`",
        "headers": {"Cache-Control": _CACHE_CONTROL, **_REDIRECTED},
    },
    416: {
        "description": "The range lies outside of the audio",
        "headers": {"Content-Range": {"description": "How many bytes there are", **_STRING}},
    },
    **problems.answers(InvalidInput.code, NotFound.code, Expired.code, Unavailable.code),
}
SERVED[404] = SERVED[404] | {
    "headers": {
        "Retry-After": {
            "description": "Seconds after which to ask again, while the job is queued",
            "schema": {"type": "integer"},
        }
    }
}

_TRANSCODED_CONTENT = {media_type: content for media_type, content in _AUDIO_CONTENT.items() if media_type != WAV}
_TRANSCODED_HEADERS = {name: header for name, header in _AUDIO_HEADERS.items() if name != "Accept-Ranges"} | {
    "Content-Location": {"description": "This very address", **_STRING},
    "Vary": {"description": "`Accept`", **_STRING},
}
TRANSCODED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The preview", "content": _TRANSCODED_CONTENT, "headers": _TRANSCODED_HEADERS},
    304: {"description": "The client has this version", "headers": _TRANSCODED_HEADERS},
    404: SERVED[404],
    **problems.answers(InvalidInput.code, Expired.code, TooLarge.code, Unavailable.code),
}
