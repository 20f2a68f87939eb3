"""Jobs: a request object written once and an outcome object written once. The state is which of them exist."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pipeline.access import concurrent_previews
from pipeline.access.owners import owns
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout, retention
from pipeline.contract.messages.webhooks import WebhookFailure
from pipeline.contract.records import (
    Envelope,
    Failed,
    Outcome,
    Request,
    Source,
    Succeeded,
    outcome_fields,
    parse_outcome,
)
from pipeline.errors import Cancelled, DeadlineExceeded, NotFound, PipelineError
from pipeline.ids import Owner, is_id, lowest_id
from pipeline.settings import Settings

Status = Literal["queued", "succeeded", "failed", "expired"]


@dataclass(frozen=True, slots=True)
class Job:
    """The state of a job at one moment."""

    job_id: str
    status: Status
    source: Source
    created_at: datetime
    outcome: Outcome | None


def preview_owner(job: Envelope | Outcome) -> Owner:
    """Return the owner whose limit of concurrent previews a job counts towards, or None if it is not counted."""
    return job.source.owner if job.kind == "preview" else None


async def read_request(resources: Resources, job_id: str) -> Request | None:
    """Return the request of a job, or None if the job is unknown or its record has expired.

    Raises
    ------
    ValidationError
        It is damaged, or of a version that this process does not support.
    """
    body = await resources.bucket.get(layout.request(job_id))
    return Request.model_validate_json(body) if body else None


async def read_envelope(resources: Resources, job_id: str) -> Envelope | None:
    """Return the version-independent fields of a request, or None if it is unknown, expired or damaged."""
    body = await resources.bucket.get(layout.request(job_id))
    return Envelope.parse_stored(body, job_id=job_id)


async def cancel(resources: Resources, owner: Owner, job_id: str) -> Job:
    """Cancel a job. Return its final state, which is another one if it had ended already.

    It ends immediately. The result of a worker that is processing it is discarded.

    Raises
    ------
    NotFound
        No job of this owner has that id.
    """
    job = await read(resources, owner, job_id)
    request = await read_envelope(resources, job_id) if job.outcome is None else None
    if request is None:
        return job
    await mark_cancelled(resources, job_id)
    await write_outcome(resources, failure(request, Cancelled("The job was cancelled."), resources.clock()))
    return await read(resources, owner, job_id)


async def mark_cancelled(resources: Resources, job_id: str) -> None:
    """Signal a worker that may be processing the job to stop. This is idempotent."""
    await resources.bucket.put_once(layout.cancellation(job_id), b"", "text/plain")


async def read_outcome(resources: Resources, job_id: str) -> Outcome | None:
    """Return the outcome of a job, or None if it has not ended or is unknown."""
    body = await resources.bucket.get(layout.outcome(job_id))
    return parse_outcome(body) if body else None


async def is_open(resources: Resources, job_id: str) -> bool:
    """Return whether a job is stored and has not ended. One that has ended may be removed with its voice."""
    if await resources.bucket.head(layout.outcome(job_id)) is not None:  # removed not after the request
        return False
    return await resources.bucket.head(layout.request(job_id)) is not None


async def webhook_error(resources: Resources, job_id: str) -> str | None:
    """Return why the webhook of a job was given up, or None if it was not."""
    body = await resources.bucket.get(layout.webhook_failure(job_id))
    return WebhookFailure.model_validate_json(body).reason if body else None


async def read(resources: Resources, owner: Owner, job_id: str) -> Job:
    """Return the current state of a job.

    Raises
    ------
    NotFound
        No job of this owner has that id, or its record has expired.
    """
    if (
        not is_id(job_id)
        or not owns(owner, job_id)
        or retention.job_expires_at(job_id, resources.settings) <= resources.clock()
    ):
        raise _unknown(job_id)
    outcome = await read_outcome(resources, job_id)
    if outcome is not None:
        return _ended(outcome, resources.clock())
    request = await read_envelope(resources, job_id)
    if request is None:
        raise _unknown(job_id)
    if retention.job_deadline(job_id, resources.settings) <= resources.clock():
        return _ended(past_deadline(request, resources), resources.clock())
    return Job(job_id, "queued", request.source, request.created_at, None)


def _ended(outcome: Outcome, now: datetime) -> Job:
    status: Status = outcome.status
    if isinstance(outcome, Succeeded) and outcome.preview and outcome.preview.expires_at <= now:
        status = "expired"
    return Job(outcome.job_id, status, outcome.source, outcome.created_at, outcome)


def _unknown(job_id: str) -> NotFound:
    return NotFound(
        f"There is no job {job_id[:64]!r}. Jobs are deleted a day after their creation.", field="job_id"
    )


async def write_outcome(resources: Resources, outcome: Outcome, *, releases: bool = True) -> bool:
    """Write the outcome of a job if it has none. Return whether the stored outcome is this one.

    `releases` is false if the caller calls `release` itself.
    """
    key = layout.outcome(outcome.job_id)
    written = await resources.bucket.put_once(key, outcome.to_json(), JSON) is not None
    if releases:
        await release(resources, outcome)
    return written


async def release(resources: Resources, outcome: Outcome) -> None:
    """Stop counting a job that has ended towards its owner's limit of concurrent previews."""
    if owner := preview_owner(outcome):
        await concurrent_previews.release(resources, owner, outcome.job_id)


def failure(request: Envelope, error: PipelineError, now: datetime) -> Failed:
    """Return the outcome of a job that fails with this error."""
    return Failed(
        **outcome_fields(request, now),
        code=error.code,
        message=error.message,
        field=error.field,
        finish_reason="cancelled" if isinstance(error, Cancelled) else None,
    )


def past_deadline(request: Envelope, resources: Resources) -> Failed:
    """Return the outcome of a job that exceeded its deadline."""
    ended_at = retention.job_deadline(request.job_id, resources.settings)
    return failure(request, too_late(resources.settings), ended_at)


def too_late(settings: Settings) -> DeadlineExceeded:
    """Return the error for a job that exceeded its deadline."""
    return DeadlineExceeded(f"The job did not end within {settings.job_deadline_minutes:g} minutes. Send it again.")


async def unfinished(resources: Resources, *, since: datetime, until: datetime) -> AsyncIterator[str]:
    """Yield the jobs created in a period that have a request and no outcome, oldest first.

    This needs one listing of the period.
    """
    current, files = "", set[str]()
    bound = layout.JOBS + lowest_id(until)
    async for item in resources.bucket.list(layout.JOBS, start_after=layout.JOBS + lowest_id(since)):
        if item.key >= bound:
            break
        job_id = layout.id_in(item.key, layout.JOBS)
        if job_id != current:
            if _is_open(files):
                yield current
            current, files = job_id, set()
        files.add(item.key.removeprefix(layout.job(job_id)))
    if _is_open(files):
        yield current


def _is_open(files: set[str]) -> bool:
    return "request.json" in files and layout.OUTCOME_FILE not in files
