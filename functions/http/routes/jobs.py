"""`/jobs`: the status of a job."""

from fastapi import APIRouter, Request, Response

from functions.http.previews.audio import Signed
from functions.http.previews.job_view import JobView, ended_view, view
from functions.http.responses import problems
from functions.http.routing.authorized_route import AuthorizedRoute, requires
from functions.http.routing.dependencies import FromCaller, FromResources, FromServices
from pipeline.domain import jobs
from pipeline.errors import InvalidInput, NotFound, Unavailable

router = APIRouter(tags=["jobs"], route_class=AuthorizedRoute)


@router.get(
    "/jobs/{job_id}",
    response_model_exclude_none=True,
    responses={
        200: {
            "headers": {
                "Retry-After": {
                    "description": "Seconds after which to poll again, while the job is queued",
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
    services: FromServices,
    request: Request,
    response: Response,
    signed: Signed = False,
) -> JobView:
    """Return a job's status: `queued`, `succeeded`, `failed`, or `expired` if its preview has been deleted."""
    resources, queue_depth = services.resources, services.queue_depth
    root_path = request.scope.get("root_path", "")
    job = await jobs.read(resources, caller.owner, job_id)
    if job.outcome is None:
        ahead = await queue_depth.ahead()
        response.headers["Retry-After"] = str(queue_depth.retry_seconds(job.created_at, ahead))
        return view(job, ahead)
    return await ended_view(resources, job, root_path=root_path, base_url=str(request.base_url) if signed else None)


@router.delete(
    "/jobs/{job_id}",
    response_model_exclude_none=True,
    responses=problems.answers(NotFound.code, Unavailable.code),
    openapi_extra=requires("preview"),
)
async def cancel_job(job_id: str, caller: FromCaller, resources: FromResources, request: Request) -> JobView:
    """Cancel a job: its status becomes `failed` with the code `cancelled`. A job that has ended does not change."""
    job = await jobs.cancel(resources, caller.owner, job_id)
    return view(job, root_path=request.scope.get("root_path", ""))
