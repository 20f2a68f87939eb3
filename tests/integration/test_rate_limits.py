"""Quotas that several processes count at the same time are never exceeded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime

import pytest

from pipeline.access import rate_limits
from pipeline.clients.resources import Resources, connect
from pipeline.clients.usage_windows import UsageWindows
from pipeline.contract import layout
from pipeline.contract.records import Request, Source
from pipeline.domain import acceptance
from pipeline.errors import QuotaStatus, TooMany
from pipeline.settings import Settings

OWNER = "alice"
PROCESSES = 4


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with small quotas."""
    few = {"requests_per_minute": 40, "previews_in_flight": 3, "reference_seconds_per_hour": 100}
    return settings.model_copy(update=few)


@pytest.fixture
async def processes(resources: Resources, settings: Settings) -> AsyncIterator[list[Resources]]:
    """The resources of several processes, each with its own clients."""
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(connect(settings)) for _ in range(PROCESSES - 1)]
        yield [resources, *others]


async def test_request_quota_across_processes(processes: list[Resources]) -> None:
    moment = processes[0].clock()  # all requests fall into one window
    shares = [at_moment(one, moment) for one in processes]
    takes = [rate_limits.take_request(shares[number % PROCESSES], OWNER) for number in range(80)]
    results = await asyncio.gather(*takes, return_exceptions=True)
    assert {type(result) for result in results} == {QuotaStatus, TooMany}
    assert 20 <= sum(isinstance(result, QuotaStatus) for result in results) <= 40


async def test_reference_quota_across_processes(processes: list[Resources]) -> None:
    moment = processes[0].clock()
    shares = [at_moment(one, moment) for one in processes]
    takes = [rate_limits.take_reference_seconds(shares[number % PROCESSES], OWNER, 15) for number in range(12)]
    results = await asyncio.gather(*takes, return_exceptions=True)
    assert sum(isinstance(result, QuotaStatus) for result in results) == 6
    assert sum(isinstance(result, TooMany) for result in results) == 6


async def test_preview_quota_across_processes(processes: list[Resources]) -> None:
    requests = [_request(processes[0]) for _ in range(12)]
    accepts = [acceptance.accept(processes[number % PROCESSES], request) for number, request in enumerate(requests)]
    results = await asyncio.gather(*accepts, return_exceptions=True)
    assert {type(result) for result in results} == {type(None), TooMany}
    marked = [item.key async for item in processes[0].bucket.list(layout.IN_FLIGHT)]
    assert 1 <= results.count(None) == len(marked) <= 3


def at_moment(resources: Resources, moment: datetime) -> Resources:
    return replace(resources, clock=lambda: moment, usage=UsageWindows(resources.bucket, lambda: moment))


def _request(resources: Resources) -> Request:
    return Request(
        job_id=resources.new_id(),
        kind="preview",
        source=Source(voice_id="nova", owner=OWNER),
        reference_id="nova",
        text="Hello.",
        created_at=resources.clock(),
    )
