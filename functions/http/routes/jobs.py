"""`/jobs`: the status of a job."""

from fastapi import APIRouter, Request, Response

from functions.http.previews.audio import Signed
from functions.http.previews.job_view import JobView, view
from functions.http.responses import problems
from functions.http.routing.authorized_route import AuthorizedRoute, requires
from functions.http.routing.dependencies import FromCaller, FromQueueDepth, FromResources
from pipeline.clients.resources import Resources
from pipeline.domain import jobs, presigned_urls
from pipeline.errors import InvalidInput, NotFound, Unavailable

router = APIRouter(tags=["jobs"], route_class=AuthorizedRoute)


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
