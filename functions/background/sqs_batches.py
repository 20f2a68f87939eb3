"""SQS batches with partial batch responses, so that only failed messages are retried."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Event = dict[str, Any]
Record = dict[str, Any]


async def each(event: Event, fails: Callable[[Record], Awaitable[bool]]) -> Event:
    """Handle all records of an event concurrently; return the partial batch response for Lambda."""
    failed = await asyncio.gather(*(fails(record) for record in event["Records"]))
    names = [record["messageId"] for record, bad in zip(event["Records"], failed, strict=True) if bad]
    return {"batchItemFailures": [{"itemIdentifier": name} for name in names]}
