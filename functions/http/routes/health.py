"""`/health`: checks of the dependencies of this process."""

from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from functions.http.responses import problems
from functions.http.routing.authorized_route import AuthorizedRoute, public
from functions.http.routing.dependencies import FromServices
from pipeline.contract.engines import ENGINES, EngineInfo, EngineStart
from pipeline.errors import StorageFull, Unavailable

router = APIRouter(tags=["health"], route_class=AuthorizedRoute)


class Health(BaseModel):
    """The status of a process that can reach its dependencies."""

    status: Literal["ok"] = "ok"
    worker: str | None = Field(
        None,
        description="`starting`, `ready`, `draining` or `unreachable`, if there is a single worker. "
        "Requests are accepted in every state",
    )
    engine: EngineInfo
    engine_start: EngineStart | None = Field(
        None, description="Progress of the engine, and its last error, while `worker` is `starting`"
    )


@router.get(
    "/health",
    response_model=Health,
    responses=problems.answers(Unavailable.code),
    openapi_extra=public(),
)
async def get_health(services: FromServices) -> Response:
    """Return 200 if this process can reach its dependencies, otherwise 503 with the unreachable ones.

    If only storage space is missing, it returns 507.  The result is cached for a second.
    """
    report = await services.health_checks.report()
    if report.unreachable:
        return problems.of_code(Unavailable.code, f"Can't reach: {', '.join(report.unreachable)}.", None)
    if report.full:
        return problems.of_code(StorageFull.code, f"No space is left: {', '.join(report.full)}.", None)
    engine = ENGINES[services.resources.settings.tts_backend]
    health = Health(worker=report.worker, engine=engine, engine_start=report.engine_start)
    return JSONResponse(health.model_dump(exclude_none=True))
