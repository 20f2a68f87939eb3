"""When what expires: decided here, asked everywhere."""

from datetime import datetime, timedelta

from pipeline.ids import born_at
from pipeline.settings import Settings

TICKET_LIFETIME = timedelta(seconds=60)


def upload_expires_at(session_id: str, settings: Settings) -> datetime:
    """An upload lives from its session's birth."""
    return born_at(session_id) + settings.upload_retention


def preview_expires_at(completed_at: datetime, settings: Settings) -> datetime:
    """A preview lives from its completion, so that waiting for a GPU takes nothing from the listener."""
    return completed_at + settings.preview_retention


def job_expires_at(job_id: str, settings: Settings) -> datetime:
    """A job's record lives from the job's birth."""
    return born_at(job_id) + settings.job_retention


def job_deadline(job_id: str, settings: Settings) -> datetime:
    """By when a job must have ended."""
    return born_at(job_id) + settings.job_deadline


def connection_expires_at(last_written: datetime, settings: Settings) -> datetime:
    """A connection is remembered from its last use."""
    return last_written + settings.connection_retention


def preview_earliest_expiry(job_id: str, settings: Settings) -> datetime:
    """Before when no preview of that job can expire, whatever its completion: the sweep stops there."""
    return born_at(job_id) + settings.preview_retention


def ticket_expires_at(ticket_id: str) -> datetime:
    """A ticket can be used for as long as a page needs to open its socket."""
    return born_at(ticket_id) + TICKET_LIFETIME
