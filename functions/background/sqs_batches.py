"""Batches of SQS messages: what failed is named, so that only that comes again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Event = dict[str, Any]
Record = dict[str, Any]


async def each(event: Event, fails: Callable[[Record], Awaitable[bool]]) -> Event:
    """Serve every record of an event side by side; the partial batch response that Lambda wants of it."""
    failed = await asyncio.gather(*(fails(record) for record in event["Records"]))
    names = [record["messageId"] for record, bad in zip(event["Records"], failed, strict=True) if bad]
    return {"batchItemFailures": [{"itemIdentifier": name} for name in names]}
