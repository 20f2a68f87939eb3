"""Jobs as they are returned to clients."""

from pydantic import BaseModel, Field

from functions.previews.urls import audio_url
from pipeline.contract.records import Failed, Timings, UtcSeconds
from pipeline.domain import jobs


class JobView(BaseModel):
    """A job, as it is returned to clients."""

    job_id: str
    status: jobs.Status
    created_at: UtcSeconds
    ahead: int | None = Field(None, description="About how many jobs wait before it, while it is queued")
    completed_at: UtcSeconds | None = None
    expires_at: UtcSeconds | None = Field(None, description="When the preview can no longer be had")
    session_id: str | None = None
    voice_id: str | None = None
    audio_url: str | None = Field(None, description="Where the preview can be had, until it expires")
    signed_url: str | None = Field(None, description="The same without a key, where that was asked for")
    duration_seconds: float | None = None
    sample_rate: int | None = None
    timings: Timings | None = None
    warnings: list[str] | None = None
    error: str | None = Field(None, description="Why the job failed")
    code: str | None = Field(None, description="Stable name of the kind of error")
    webhook_error: str | None = Field(None, description="Why its webhook was given up")


def view(job: jobs.Job, ahead: int | None = None) -> JobView:
    """Return the view of a job; `ahead`: how many jobs are before it in the queue."""
    seen = JobView(
        job_id=job.job_id,
        status=job.status,
        created_at=job.created_at,
        ahead=ahead,
        session_id=job.source.session_id,
        voice_id=job.source.voice_id,
    )
    outcome = job.outcome
    if outcome is None:
        return seen
    more: dict[str, object] = {"completed_at": outcome.completed_at}
    if isinstance(outcome, Failed):
        more |= {"error": outcome.message, "code": outcome.code}
    else:
        more |= {"timings": outcome.timings, "warnings": list(outcome.warnings) or None}
        if outcome.preview:
            more |= outcome.preview.model_dump(include={"duration_seconds", "sample_rate", "expires_at"})
            more["audio_url"] = audio_url(job.job_id) if job.status == "succeeded" else None
    return seen.model_copy(update=more)
