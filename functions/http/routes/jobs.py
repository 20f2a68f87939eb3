"""`/jobs`: the status of a job."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from functions.http.responses import problems
from functions.http.routing.authorized_route import AuthorizedRoute, requires
from functions.http.routing.dependencies import FromCaller, FromQueueDepth, FromResources
from functions.previews.urls import audio_url
from pipeline.clients.resources import Resources
from pipeline.contract.record import UtcSeconds
from pipeline.contract.records import Failed, Timings
from pipeline.domain import jobs, presigned_urls
from pipeline.errors import InvalidInput, NotFound, Unavailable

router = APIRouter(tags=["jobs"], route_class=AuthorizedRoute)


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


Signed = Annotated[bool, Query(description="Give a link that needs no key, and ends with the preview")]


@router.get(
    "/jobs/{job_id}",
    response_model_exclude_none=True,
    responses={
        200: {
            "headers": {
                "Retry-After": {
                    "description": "Seconds after which to ask again, while queued",
                    "schema": {"type": "integer"},
                }
            }
        },
        **problems.answers(InvalidInput.code, NotFound.code, Unavailable.code),
    },
    openapi_extra=requires("preview"),
)
async def get_job(
    job_id: str,
    caller: FromCaller,
    resources: FromResources,
    queue_depth: FromQueueDepth,
    request: Request,
    response: Response,
    signed: Signed = False,
) -> JobView:
    """Return a job's status: `queued`, `succeeded`, `failed`, or `expired` if its preview has been deleted."""
    job = await jobs.read(resources, caller.owner, job_id)
    if job.outcome:
        seen = await _with_link(resources, job, str(request.base_url)) if signed else view(job)
        return seen.model_copy(update={"webhook_error": await jobs.webhook_error(resources, job_id)})
    ahead = await queue_depth.ahead()
    response.headers["Retry-After"] = str(queue_depth.retry_seconds(job.created_at, ahead))
    return view(job, ahead)


@router.delete(
    "/jobs/{job_id}",
    response_model_exclude_none=True,
    responses=problems.answers(NotFound.code, Unavailable.code),
    openapi_extra=requires("preview"),
)
async def cancel_job(job_id: str, caller: FromCaller, resources: FromResources) -> JobView:
    """Cancel a job: it is `failed` with the code `cancelled`, or returned unchanged if it has ended already."""
    return view(await jobs.cancel(resources, caller.owner, job_id))


async def _with_link(resources: Resources, job: jobs.Job, base_url: str) -> JobView:
    seen = view(job)
    if seen.audio_url is None or seen.expires_at is None:
        return seen
    url = await presigned_urls.signed(resources, job.job_id, seen.expires_at)
    return seen.model_copy(update={"signed_url": presigned_urls.absolute(url, base_url)})
