"""`/health`: whether this process can do its work."""

import asyncio
from collections.abc import Awaitable
from typing import Literal

from aiohttp import ClientError, ClientSession, ClientTimeout
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from functions.http import problems
from functions.http.authorized_route import AuthorizedRoute, public
from functions.http.dependencies import FromResources
from pipeline.errors import Unavailable

router = APIRouter(tags=["health"], route_class=AuthorizedRoute)

PATIENCE_SECONDS = 2.0


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
    checks = {
        "storage": resources.bucket.ping(),
        "voice storage": resources.voices.ping(),
        "synthesis queue": resources.synthesis.ping(),
    }
    worker = asyncio.create_task(_worker(resources.settings.worker_health_url))
    answered = await asyncio.gather(*(_answers(check) for check in checks.values()))
    missing = [name for name, up in zip(checks, answered, strict=True) if not up]
    state = await worker
    if missing:
        return problems.of_code(Unavailable.code, f"Can't reach: {', '.join(missing)}.", None)
    return JSONResponse(Health(worker=state).model_dump(exclude_none=True))


async def _worker(url: str | None) -> str | None:
    """Ask the worker how it is."""
    if url is None:
        return None
    try:
        async with ClientSession(timeout=ClientTimeout(PATIENCE_SECONDS)) as client, client.get(url) as answer:
            return str((await answer.json())["status"])
    except (ClientError, TimeoutError, OSError, ValueError, KeyError):
        return "unreachable"


async def _answers(check: Awaitable[None]) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await check
    except (Unavailable, TimeoutError):
        return False
    return True
