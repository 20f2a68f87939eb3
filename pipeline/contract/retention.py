"""When objects expire."""

from datetime import datetime, timedelta

from pipeline.errors import Expired
from pipeline.ids import timestamp_of
from pipeline.settings import Settings

TICKET_LIFETIME = timedelta(seconds=60)
IDEMPOTENCY_RETENTION = timedelta(days=1)


def upload_expires_at(session_id: str, settings: Settings) -> datetime:
    """Return when an upload expires, counted from the creation of its session."""
    return timestamp_of(session_id) + settings.upload_retention


def preview_expires_at(completed_at: datetime, settings: Settings) -> datetime:
    """Return when a preview expires, counted from its completion: time in the queue does not shorten it."""
    return completed_at + settings.preview_retention


def check_preview(completed_at: datetime, settings: Settings, now: datetime) -> datetime:
    """Return when a preview expires.

    Raises
    ------
    Expired
        It has expired.
    """
    expires_at = preview_expires_at(completed_at, settings)
    if expires_at <= now:
        raise preview_expired()
    return expires_at


def preview_expired() -> Expired:
    """Return the error for a preview that has expired."""
    return Expired("The preview has expired. Previews are kept for a short time only.", field="job_id")


def job_expires_at(job_id: str, settings: Settings) -> datetime:
    """Return when a job's record expires, counted from the creation of the job."""
    return timestamp_of(job_id) + settings.job_retention


def job_deadline(job_id: str, settings: Settings) -> datetime:
    """Return the deadline of a job."""
    return timestamp_of(job_id) + settings.job_deadline


def connection_expires_at(last_written: datetime, settings: Settings) -> datetime:
    """Return when a connection's record expires, counted from its last use."""
    return last_written + settings.connection_retention


def preview_earliest_expiry(job_id: str, settings: Settings) -> datetime:
    """Return the earliest time at which a preview of that job can expire, which bounds the sweep's listing."""
    return timestamp_of(job_id) + settings.preview_retention


def idempotency_expires_at(created_at: datetime) -> datetime:
    """Return when the answer to a request with an idempotency key expires."""
    return created_at + IDEMPOTENCY_RETENTION


def ticket_expires_at(ticket_id: str) -> datetime:
    """Return when a ticket expires."""
    return timestamp_of(ticket_id) + TICKET_LIFETIME
