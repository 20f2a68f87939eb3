"""Requests that OpenAI's clients send again after a timeout or an error, without an idempotency key."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from pydantic import BaseModel
from starlette.datastructures import Headers

from pipeline.access import idempotency
from pipeline.clients.resources import Resources
from pipeline.domain import jobs
from pipeline.errors import NotFound, Unavailable
from pipeline.ids import Owner

log = structlog.get_logger(__name__)

RETRY_COUNT = "X-Stainless-Retry-Count"
"""The header in which OpenAI's clients send how often they have sent a request before."""


def fingerprint_of(body: BaseModel) -> str:
    """Return a digest of a request's body: equal for equal requests."""
    return hashlib.sha256(body.model_dump_json().encode()).hexdigest()


async def job_to_join(resources: Resources, owner: Owner, fingerprint: str, headers: Headers) -> str | None:
    """Return the job that a request should wait for, or None if it should make its own.

    It is the job of an equal request of the last minute, if that is under way; once it has ended, only for a
    request that a client sends again by itself: its user may want another take.
    """
    job_id = await idempotency.recent_job(resources, owner, fingerprint)
    if job_id is None:
        return None
    try:
        job = await jobs.read(resources, owner, job_id)
    except NotFound:  # it was not accepted
        return None
    return job_id if job.outcome is None or headers.get(RETRY_COUNT, "0") != "0" else None


@asynccontextmanager
async def remembered(resources: Resources, owner: Owner, fingerprint: str, job_id: str) -> AsyncIterator[None]:
    """Remember a job for `job_to_join`, while it is made; if that fails, a repeated request makes another."""
    remembering = asyncio.create_task(_remember(resources, owner, fingerprint, job_id))
    try:
        yield
    finally:
        await remembering


async def _remember(resources: Resources, owner: Owner, fingerprint: str, job_id: str) -> None:
    try:
        await idempotency.remember_job(resources, owner, fingerprint, job_id)
    except Unavailable as error:
        log.warning("job not remembered for repeated requests", job_id=job_id, reason=error.message)
