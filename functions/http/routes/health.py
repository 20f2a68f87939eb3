"""`/health`: whether this process can do its work."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from functions.http import problems
from functions.http.authorized_route import AuthorizedRoute, public
from functions.http.dependencies import FromResources
from functions.operations.reachability import reach_dependencies, worker_state
from pipeline.errors import Unavailable

router = APIRouter(tags=["health"], route_class=AuthorizedRoute)


class Health(BaseModel):
    """All is well."""

    status: Literal["ok"] = "ok"
    worker: str | None = Field(
        None,
        description="`starting`, `ready`, `draining` or `unreachable`, where there is one worker to ask; "
        "requests are taken on meanwhile",
    )


@router.get(
    "/health",
    response_model=Health,
    responses=problems.answers(Unavailable.code),
    openapi_extra=public(),
)
async def health(resources: FromResources) -> Response:
    """Answer 200 when this process reaches what it depends on; 503 names what it does not reach."""
    seconds, worker = await asyncio.gather(
        reach_dependencies(resources), worker_state(resources.settings.worker_health_url)
    )
    missing = [name for name, took in seconds.items() if took is None]
    if missing:
        return problems.of_code(Unavailable.code, f"Can't reach: {', '.join(missing)}.", None)
    return JSONResponse(Health(worker=worker).model_dump(exclude_none=True))
