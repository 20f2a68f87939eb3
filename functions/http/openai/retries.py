"""Retries of OpenAI's clients, which send no idempotency key."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from starlette.datastructures import Headers

from pipeline.access import idempotency
from pipeline.clients.resources import Resources
from pipeline.contract.records import Failed
from pipeline.domain import jobs
from pipeline.errors import NotFound, Unavailable
from pipeline.ids import Owner

log = structlog.get_logger(__name__)

RETRY_COUNT = "X-Stainless-Retry-Count"
"""The header of OpenAI's clients with the number of earlier attempts."""


def fingerprint_of(body: bytes) -> str:
    """Return a digest of a request body.  The client sends the same bytes again."""
    return hashlib.sha256(body).hexdigest()


def is_retry(headers: Headers) -> bool:
    """Return whether a client sends a request again without an instruction of its user."""
    return headers.get(RETRY_COUNT, "0").lstrip("0").isdecimal()


async def job_to_join(resources: Resources, owner: Owner, fingerprint: str) -> str | None:
    """Return the job of an equal request of the last minute, or None if a retry needs a new job."""
    job_id = await idempotency.recent_job(resources, owner, fingerprint)
    if job_id is None:
        return None
    try:
        job = await jobs.read(resources, owner, job_id)
    except NotFound:  # the job was not accepted
        return None
    return None if isinstance(job.outcome, Failed) else job_id


@asynccontextmanager
async def stored_for_retries(
    resources: Resources, owner: Owner, fingerprint: str, job_id: str
) -> AsyncIterator[str]:
    """Store a job for `job_to_join` while it is created. Yield the key of its record.

    If that fails, a retry creates another job.
    """
    storing = asyncio.create_task(_store(resources, owner, fingerprint, job_id))
    try:
        yield idempotency.key_of_repeats(resources, owner, fingerprint)
    finally:
        await storing


async def _store(resources: Resources, owner: Owner, fingerprint: str, job_id: str) -> None:
    try:
        await idempotency.remember_job(resources, owner, fingerprint, job_id)
    except Unavailable as error:
        log.warning("job not stored for retries", job_id=job_id, reason=error.message)
