"""The view of a job that clients receive."""

from pydantic import BaseModel, Field

from pipeline.clients.resources import Resources
from pipeline.contract.layout import audio_url
from pipeline.contract.records import Failed, FinishReason, JobAnalysis, ReferenceCheck, Timings, UtcSeconds
from pipeline.domain import jobs, presigned_urls, reference_checks
from pipeline.settings import Mark


class JobView(BaseModel):
    """The state of a job."""

    job_id: str
    status: jobs.Status
    created_at: UtcSeconds
    ahead: int | None = Field(None, description="Approximate number of jobs before it, while it is queued")
    completed_at: UtcSeconds | None = None
    expires_at: UtcSeconds | None = Field(None, description="When the preview expires")
    session_id: str | None = None
    voice_id: str | None = None
    audio_url: str | None = Field(None, description="Path of the preview, until it expires")
    signed_url: str | None = Field(None, description="URL of the preview that needs no key, if requested")
    duration_seconds: float | None = None
    sample_rate: int | None = None
    timings: Timings | None = None
    warnings: list[str] | None = None
    reference_check: ReferenceCheck | None = Field(
        None, description="Result of the checks of the recording, once they have ended"
    )
    speaker_similarity: float | None = Field(
        None, description="Cosine of the speaker embeddings of the preview and the recording, once it is measured"
    )
    finish_reason: FinishReason | None = Field(None, description="How the audio ended; `length`: it was cut off")
    marks: list[Mark] | None = Field(None, description="Marks in the samples of the audio")
    error: str | None = Field(None, description="Why the job failed")
    code: str | None = Field(None, description="Stable error code")
    webhook_error: str | None = Field(None, description="Why the delivery of the webhook failed")


def view(job: jobs.Job, ahead: int | None = None, *, root_path: str = "") -> JobView:
    """Return the view of a job.

    Parameters
    ----------
    job
        The job.
    ahead
        The approximate number of jobs before it in the queue.
    root_path
        The prefix of the API's paths for the client.
    """
    found = JobView(
        job_id=job.job_id,
        status=job.status,
        created_at=job.created_at,
        ahead=ahead,
        session_id=job.source.session_id,
        voice_id=job.source.voice_id,
    )
    outcome = job.outcome
    if outcome is None:
        return found
    more: dict[str, object] = {"completed_at": outcome.completed_at, "finish_reason": outcome.finish_reason}
    if isinstance(outcome, Failed):
        more |= {"error": outcome.message, "code": outcome.code}
    else:
        more |= {name: getattr(outcome, name) for name in JobAnalysis.model_fields}
        more |= {"timings": outcome.timings, "warnings": list(outcome.warnings) or None}
        more["marks"] = list(outcome.marks) or None
        if outcome.preview:
            more |= outcome.preview.model_dump(include={"duration_seconds", "sample_rate", "expires_at"})
            more["audio_url"] = audio_url(job.job_id, root_path=root_path) if job.status == "succeeded" else None
    return found.model_copy(update=more)


async def ended_view(resources: Resources, job: jobs.Job, *, root_path: str, base_url: str | None) -> JobView:
    """Return the view of a job that has ended, with the error of its webhook.

    `base_url` is the URL of the API for the client, to include a signed URL of the preview; None to omit it.
    """
    ended = view(job, root_path=root_path).model_copy(
        update={"webhook_error": await jobs.webhook_error(resources, job.job_id)}
    )
    if resources.settings.quality != "off" and ended.audio_url and ended.speaker_similarity is None:
        later = await reference_checks.of_job(resources, job.job_id)
        ended = ended.model_copy(update=dict(later) if later else {})
    if base_url is None or ended.audio_url is None or ended.expires_at is None:
        return ended
    url = await presigned_urls.signed(resources, job.job_id, ended.expires_at)
    return ended.model_copy(update={"signed_url": presigned_urls.absolute(url, base_url)})
