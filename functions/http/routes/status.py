"""`/status` and `/metrics`: the status of the service, for its operators."""

from fastapi import APIRouter, Response

from functions.http.responses import problems
from functions.http.routing.authorized_route import AuthorizedRoute, requires
from functions.http.routing.dependencies import FromServices
from functions.http.status.prometheus import CONTENT_TYPE, to_text
from functions.http.status.service_status import ServiceStatus
from pipeline.errors import Unavailable

router = APIRouter(tags=["operations"], route_class=AuthorizedRoute)


@router.get("/status", responses=problems.answers(Unavailable.code), openapi_extra=requires("admin"))
async def get_status(services: FromServices) -> ServiceStatus:
    """Return the status of queues, worker, sweep and dependencies, and statistics of the last hour's jobs."""
    return await services.status_reader.read()


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Gauges in the text format of Prometheus",
            "content": {CONTENT_TYPE: {"schema": {"type": "string"}}},
        },
        **problems.answers(Unavailable.code),
    },
    openapi_extra=requires("admin"),
)
async def get_metrics(services: FromServices) -> Response:
    """Return the values of `/status` as Prometheus metrics."""
    return Response(to_text(await services.status_reader.read()), headers={"Content-Type": CONTENT_TYPE})
