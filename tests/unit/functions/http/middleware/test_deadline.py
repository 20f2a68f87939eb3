"""The deadline of a request."""

import asyncio
from collections.abc import Iterator

import pytest
from starlette.types import Message, Receive, Scope, Send

from functions.http.middleware.deadline import FIRST_BYTE_AT, LEAST_SECONDS, RequestDeadline
from pipeline.clients import deadlines


async def seconds_left_for(scope: Scope, *parts: Message) -> float:
    """Send a request, read so much of it, and return how long it then has."""
    left = 0.0

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        nonlocal left
        for message in parts:
            assert await receive() == message
        left = deadlines.seconds_left()

    async def receive(sent: Iterator[Message] = iter(parts)) -> Message:  # noqa: B008 - one request's
        return next(sent)

    async def send(_message: Message) -> None:
        raise AssertionError("nothing is sent")

    await RequestDeadline(app, seconds=27.5)(scope, receive, send)
    return left


def http(first_byte_ago: float = 0) -> Scope:
    return {"type": "http", "state": {FIRST_BYTE_AT: asyncio.get_running_loop().time() - first_byte_ago}}


def part(*, more: bool) -> Message:
    return {"type": "http.request", "body": b"x", "more_body": more}


async def test_deadline_counts_from_first_byte() -> None:
    assert await seconds_left_for(http()) == pytest.approx(27.5, abs=0.1)
    assert await seconds_left_for(http(first_byte_ago=20)) == pytest.approx(7.5, abs=0.1)
    assert await seconds_left_for({"type": "http"}) == pytest.approx(27.5, abs=0.1)


async def test_slow_body_extends_deadline() -> None:
    scope = http(first_byte_ago=600)
    assert await seconds_left_for(scope, part(more=True)) < 0
    whole = [part(more=True), part(more=False)]
    assert await seconds_left_for(scope, *whole) == pytest.approx(LEAST_SECONDS, abs=0.1)


async def test_deadline_applies_within_context() -> None:
    with deadlines.within(0.01):
        with pytest.raises(TimeoutError):
            async with deadlines.timeout():
                await asyncio.sleep(10)
        with deadlines.within(5):
            async with deadlines.timeout():
                await asyncio.sleep(0)
        assert deadlines.seconds_left() < 0
    assert deadlines.seconds_left() == float("inf")
    async with deadlines.timeout():
        await asyncio.sleep(0)


async def test_deadline_passes_to_tasks() -> None:
    async def left() -> float:
        return deadlines.seconds_left()

    with deadlines.within(5):
        task = asyncio.create_task(left())
    assert await task < 5
