"""Everything that can go wrong, typed once; each edge maps these classes to its own protocol once."""

from dataclasses import dataclass
from typing import ClassVar


class PipelineError(Exception):
    """A failure fit for the client's eyes.

    Parameters
    ----------
    message
        What was wrong and what would be right.
    field
        The input field at fault, where there is one.
    retry_after
        Seconds after which the same request may do better, where that is known.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, field: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after = retry_after


class InvalidInput(PipelineError):
    """The input can never work as it is."""

    code = "invalid_input"


class InvalidAudio(InvalidInput):
    """The reference recording can't be used."""

    code = "invalid_audio"


class TooLarge(InvalidInput):
    """The input has more bytes than are taken."""

    code = "too_large"


class Unauthorized(PipelineError):
    """The caller sent no key, or one that is not valid now."""

    code = "unauthorized"


class NoCredentials(Unauthorized):
    """The caller sent no key at all."""


class Forbidden(PipelineError):
    """The caller is known, and may not do this."""

    code = "forbidden"


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """How much of a quota is left, in the terms of the IETF's RateLimit header fields."""

    policy: str
    quota: int
    remaining: int
    window_seconds: int | None = None  # of a quota that is renewed in each window
    reset_seconds: int | None = None  # until there is more, where that is known
    unit: str | None = None  # when it is not requests


class TooMany(PipelineError):
    """A quota is used up, or an address is throttled; `retry_after` says when to retry.

    Parameters
    ----------
    message, field, retry_after
        As of every `PipelineError`.
    quota_status
        The quota, where it is one.
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
    """What had that id has expired."""

    code = "expired"


class NameTaken(PipelineError):
    """A voice of that name exists, or is being saved."""

    code = "name_taken"


class DeadlineExceeded(PipelineError):
    """The job did not end in its time."""

    code = "deadline_exceeded"


class Cancelled(PipelineError):
    """Its owner no longer wants the job."""

    code = "cancelled"


class SynthesisFailed(PipelineError):
    """The job was tried as often as is allowed and did not succeed."""

    code = "synthesis_failed"


class Unavailable(PipelineError):
    """Something this process depends on does not answer; the same request may work later."""

    code = "unavailable"


class Misconfigured(Unavailable):
    """Something this process depends on refuses it for good: its settings or its permissions are wrong."""


class ConnectionGone(PipelineError):
    """The WebSocket client is no longer there."""

    code = "connection_gone"
