"""All error classes, and the messages of validation errors.  Each interface maps the classes to its protocol."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


class PipelineError(Exception):
    """An error whose message may be shown to the client.

    Parameters
    ----------
    message
        The cause, and the valid values.
    field
        The input field that is wrong, if there is one.
    retry_after
        Seconds after which a retry of the same request may succeed, if known.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, field: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after = retry_after


class InvalidInput(PipelineError):
    """The input is invalid. The same request can never succeed."""

    code = "invalid_input"


class InvalidAudio(InvalidInput):
    """The reference recording can't be used."""

    code = "invalid_audio"


class FormatNotInstalled(InvalidInput):
    """The audio format needs a library that is not installed."""

    def __init__(self, format_: str, package: str) -> None:
        super().__init__(
            f"{format_} can't be made by this installation, which lacks the package `{package}`. "
            "Use wav, flac, mp3, opus or pcm, at the speed 1.",
            field="format",
        )


class ReferenceRejected(InvalidInput):
    """The checks of a recording have found faults, and `QUALITY` is `require`."""

    code = "reference_rejected"


class TooLarge(InvalidInput):
    """The input is larger than the limit."""

    code = "too_large"


class Unauthorized(PipelineError):
    """The caller sent no key, or one that is not valid now."""

    code = "unauthorized"


class NoCredentials(Unauthorized):
    """The caller sent no key at all."""


class Forbidden(PipelineError):
    """The caller is authenticated, but not authorized for this."""

    code = "forbidden"


class ConsentRequired(PipelineError):
    """`CONSENT=require`, and the speaker's consent is missing, not valid or does not include this use."""

    code = "consent_required"


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """How much of a quota is left, in the terms of the IETF's RateLimit header fields."""

    policy: str
    quota: int
    remaining: int
    window_seconds: int | None = None  # of a quota that is renewed in each window
    reset_seconds: int | None = None  # until more becomes available, if known
    unit: str | None = None  # when it is not requests


class TooMany(PipelineError):
    """A quota is used up, or an address is throttled. `retry_after` is when to retry.

    Parameters
    ----------
    message, field, retry_after
        See `PipelineError`.
    quota_status
        The status of the quota, if one is used up.
    """

    code = "too_many_requests"

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        retry_after: int | None = None,
        quota_status: QuotaStatus | None = None,
    ) -> None:
        super().__init__(message, field=field, retry_after=retry_after)
        self.quota_status = quota_status


class NotFound(PipelineError):
    """Nothing has that id."""

    code = "not_found"


class NotReady(NotFound):
    """Nothing has that id yet."""

    code = "not_ready"


class Expired(PipelineError):
    """The resource with that id has expired."""

    code = "expired"


class IdempotencyKeyReused(InvalidInput):
    """The idempotency key was used for another request."""

    code = "idempotency_key_reused"


class RequestInProgress(PipelineError):
    """The first request with this idempotency key has not been answered yet."""

    code = "request_in_progress"


class NameTaken(PipelineError):
    """A voice of that name exists, or is being saved."""

    code = "name_taken"


class DeadlineExceeded(PipelineError):
    """The job did not end before its deadline."""

    code = "deadline_exceeded"


class Cancelled(PipelineError):
    """The owner cancelled the job."""

    code = "cancelled"


class VoiceDeleted(PipelineError):
    """The voice of the job was deleted, or its speaker's consent was revoked."""

    code = "voice_deleted"


class SynthesisFailed(PipelineError):
    """The job failed at every attempt."""

    code = "synthesis_failed"


class Unavailable(PipelineError):
    """A dependency of this process does not respond. The same request may succeed later."""

    code = "unavailable"


class Misconfigured(Unavailable):
    """A dependency of this process refuses its requests permanently: the settings or permissions are wrong."""

    code = "misconfigured"


class StorageFull(Unavailable):
    """The storage has no space left. The same request may succeed when there is space again."""

    code = "storage_full"


class QueueFull(Unavailable):
    """Too many jobs wait for a worker. The same request may succeed later."""


def unavailability(error: Unavailable) -> str:
    """Return the message about an outage for clients, which does not name the dependency."""
    if isinstance(error, QueueFull):
        return error.message
    if isinstance(error, Misconfigured):
        return "The service is misconfigured. The reason is in its log."
    if isinstance(error, StorageFull):
        return "The service has no storage space left. Try again later."
    return "The service can't reach its storage or queue. Try again shortly."


class ConnectionGone(PipelineError):
    """The WebSocket client has disconnected."""

    code = "connection_gone"


_MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this request",
    "string_type": "should be a string",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "finite_number": "should be a finite number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
}
_OBJECT = "should be a JSON object"
_LENGTH_TYPES = {"too_short", "too_long"}  # of lists, and of strings after another validator
_OBJECT_TYPES = {"dict_type", "model_type", "model_attributes_type"}
# Not the names of types, such as `str`, `VoiceId` or `function-after[check(), str]`.
_FIELD_NAME = re.compile(r"(?!(?:str|int|float|bool)$)[a-z][a-z0-9_]*")
_PREFIXES = ("Value error, ", "Input ", "String ")


def validation_field(location: Sequence[int | str]) -> str:
    """Return the name of the field of one item of Pydantic's `ValidationError.errors()`; "" for the whole input.

    The names of types that Pydantic adds for the alternatives of a union are left out.
    """
    nested = [str(part) for part in location[1:] if isinstance(part, int) or _FIELD_NAME.fullmatch(part)]
    return ".".join([str(part) for part in location[:1]] + nested)


def validation_message(error: Mapping[str, Any]) -> str:
    """Return the message of one item of Pydantic's `ValidationError.errors()`.

    It states what is wrong with a field and which values are valid.  The subject of the sentence is the field.
    """
    if error["type"] in _OBJECT_TYPES:
        return _OBJECT
    if error["type"] in _LENGTH_TYPES:
        bound, limit = next(item for item in error["ctx"].items() if item[0] in {"min_length", "max_length"})
        unit = "characters" if error["ctx"]["field_type"] in {"Value", "String"} else "items"
        return f"should have at {'least' if bound == 'min_length' else 'most'} {limit} {unit}"
    message: str = _MESSAGES.get(error["type"], error["msg"])
    for prefix in _PREFIXES:
        message = message.removeprefix(prefix)
    return message
