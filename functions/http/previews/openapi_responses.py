"""The OpenAPI responses of the routes that return a preview's audio."""

from typing import Any

from functions.http.previews.job_view import JobView
from functions.http.responses import problems
from pipeline.audio.output_formats import FORMATS
from pipeline.audio.wav import WAV
from pipeline.errors import (
    Cancelled,
    ConsentRequired,
    DeadlineExceeded,
    Expired,
    InvalidInput,
    NotFound,
    SynthesisFailed,
    TooLarge,
    TooMany,
    Unavailable,
)

_STRING: dict[str, Any] = {"schema": {"type": "string"}}
_AUDIO_CONTENT = {
    format_.media_type: {"schema": {"type": "string", "format": "binary"}} for format_ in FORMATS.values()
}
_WAV_CONTENT = {WAV: _AUDIO_CONTENT[WAV]}
_EXPIRES = {"description": "When the preview expires", **_STRING}
_CACHE_CONTROL = {"description": "`private`", **_STRING}
_PREFERENCE_APPLIED = {"description": "RFC 7240: the preferences that were applied", **_STRING}

_JOB_HEADERS = {
    "X-Job-Id": {"description": "The job, if one was created", **_STRING},
    "X-Session-Id": {"description": "The session of the reference, if it is an upload", **_STRING},
    "Preference-Applied": _PREFERENCE_APPLIED,
}

_REDIRECT_HEADERS = {
    "Expires": _EXPIRES,
    "Location": {"description": "Signed URL of the preview, valid until the preview expires", **_STRING},
}

UNSATISFIABLE_RANGE = {
    "description": "The range is outside of the file",
    "headers": {"Content-Range": {"description": "The size of the file", **_STRING}},
}


def range_response(content: dict[str, Any], headers: dict[str, Any]) -> dict[str, Any]:
    """Return the response to a range request for a file with this content and these headers."""
    content_range = {"description": "The range and the size of the file", **_STRING}
    return {
        "description": "The requested range",
        "content": content,
        "headers": headers | {"Content-Range": content_range},
    }


GENERATED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The preview",
        "content": _AUDIO_CONTENT,
        "headers": {
            "Cache-Control": _CACHE_CONTROL,
            "Content-Disposition": {"description": "The file name `preview.wav`, or that of the format", **_STRING},
            "Content-Location": {"description": "Path of the stored preview", **_STRING},
            "Expires": {"description": "When the preview expires; not on streamed responses", **_STRING},
            "X-Finish-Reason": {
                "description": "`stop`, `length` if the audio was cut off, or `retried`; not on streamed responses",
                **_STRING,
            },
            "X-Reference-Warnings": {
                "description": "Faults of the recording: codes, if they were found before the preview",
                **_STRING,
            },
            "Vary": {"description": "`Accept`", **_STRING},
            **_JOB_HEADERS,
        },
    },
    202: {
        "description": "Not ready: the job continues",
        "model": JobView,
        "headers": {
            "Location": {"description": "The job", **_STRING},
            "Retry-After": {"description": "Seconds after which to poll", "schema": {"type": "integer"}},
            **_JOB_HEADERS,
        },
    },
    303: {
        "description": "The preview is too large for a response: download it from `Location`",
        "headers": {
            "Cache-Control": _CACHE_CONTROL,
            "Content-Location": {"description": "Path of the stored preview", **_STRING},
            **_REDIRECT_HEADERS,
            **_JOB_HEADERS,
        },
    },
    **problems.answers(
        InvalidInput.code,
        NotFound.code,
        Expired.code,
        TooLarge.code,
        Cancelled.code,
        ConsentRequired.code,
        SynthesisFailed.code,
        DeadlineExceeded.code,
        Unavailable.code,
    ),
}
for _status in set(GENERATED) - {200, 202, 303}:
    # The error responses contain the id of the job too.
    GENERATED[_status] = GENERATED[_status] | {"headers": _JOB_HEADERS}

_AUDIO_HEADERS = {
    "Accept-Ranges": {"description": "`bytes`", **_STRING},
    "Cache-Control": _CACHE_CONTROL,
    "Content-Disposition": {"description": "The file name `preview.wav`", **_STRING},
    "ETag": {"description": "Version of the file", **_STRING},
    "Expires": _EXPIRES,
    "Last-Modified": {"description": "When it was generated", **_STRING},
}
SERVED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The preview", "content": _WAV_CONTENT, "headers": _AUDIO_HEADERS},
    206: range_response(_WAV_CONTENT, _AUDIO_HEADERS),
    304: {"description": "The client has this version", "headers": _AUDIO_HEADERS},
    303: {
        "description": "The requested part is too large for a response: download it from `Location`",
        "headers": {"Cache-Control": _CACHE_CONTROL, **_REDIRECT_HEADERS},
    },
    416: UNSATISFIABLE_RANGE,
    **problems.answers(InvalidInput.code, NotFound.code, Expired.code, Unavailable.code),
}
SERVED[404] = SERVED[404] | {
    "headers": {
        "Retry-After": {
            "description": "Seconds after which to poll again, while the job is queued",
            "schema": {"type": "integer"},
        }
    }
}

_TRANSCODED_CONTENT = {media_type: content for media_type, content in _AUDIO_CONTENT.items() if media_type != WAV}
_TRANSCODED_HEADERS = _AUDIO_HEADERS | {
    "Content-Location": {"description": "Path of this file", **_STRING},
    "Vary": {"description": "`Accept`", **_STRING},
}
TRANSCODED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The preview", "content": _TRANSCODED_CONTENT, "headers": _TRANSCODED_HEADERS},
    206: range_response(_TRANSCODED_CONTENT, _TRANSCODED_HEADERS),
    304: {"description": "The client has this version", "headers": _TRANSCODED_HEADERS},
    404: SERVED[404],
    416: UNSATISFIABLE_RANGE,
    **problems.answers(InvalidInput.code, Expired.code, TooLarge.code, TooMany.code, Unavailable.code),
}
