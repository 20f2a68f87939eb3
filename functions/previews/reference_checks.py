"""Requests that check a reference recording in the worker, and wait for the result."""

from collections.abc import Sequence
from typing import Literal

from functions.previews.completion_waiters import CompletionWaiters
from pipeline.access.owners import new_id
from pipeline.clients import deadlines
from pipeline.clients.resources import Resources
from pipeline.clients.storage import NewObject
from pipeline.contract.records import Request, Source
from pipeline.domain import acceptance, jobs, reference_checks, sessions
from pipeline.ids import Owner
from pipeline.settings import ANSWER_SECONDS
from pipeline.telemetry.logs import current_correlation_id
from pipeline.telemetry.tracing import current_traceparent


async def check_session(
    resources: Resources,
    waiters: CompletionWaiters,
    owner: Owner,
    session_id: str,
    objects: Sequence[NewObject] = (),
    *,
    reference_seconds: float = 0,
    wait_seconds: float,
    kind: Literal["check", "consent"] = "check",
) -> jobs.Job:
    """Create a job that checks the recording of a session, and return its state after at most `wait_seconds`.

    `objects` are those of a new session, see `acceptance.accept`. A `consent` is checked by its own rules.

    Raises
    ------
    TooMany, Unavailable
        The job was not accepted.
    """
    request = Request(
        job_id=new_id(resources.new_id, owner),
        kind=kind,
        source=Source(session_id=session_id, owner=owner),
        reference_id=session_id,
        created_at=resources.clock(),
        correlation_id=current_correlation_id(),
        traceparent=current_traceparent(),
    )
    with waiters.waiter(request.job_id) as waiter:
        request = request.model_copy(update={"subscriber": waiter.subscriber})
        await acceptance.accept(resources, request, objects, reference_seconds=reference_seconds)
        await waiters.wait(waiter, wait_seconds)
    return await jobs.read(resources, owner, request.job_id)


async def ensure_checked(resources: Resources, waiters: CompletionWaiters, owner: Owner, session_id: str) -> None:
    """Check the reference of a session before its voice is saved, if `QUALITY` is `require`. Once is enough."""
    if resources.settings.quality != "require" or await reference_checks.of_session(resources, session_id):
        return
    await sessions.require(resources, owner, session_id)
    await check_session(resources, waiters, owner, session_id, wait_seconds=longest_wait(resources))


def longest_wait(resources: Resources) -> float:
    """Return for how many seconds the current request may wait for a job."""
    return min(resources.settings.preview_wait_seconds, deadlines.seconds_left() - ANSWER_SECONDS)
