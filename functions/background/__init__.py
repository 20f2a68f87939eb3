"""The handlers of the queues and of the schedule, and the batch response that those of queues return."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Event = dict[str, Any]
Record = dict[str, Any]


async def handle_batch(event: Event, fails: Callable[[Record], Awaitable[bool]]) -> Event:
    """Handle all records of an SQS event concurrently; return the partial batch response for Lambda.

    With it only the messages are retried for which `fails` returned True.
    """
    failed = await asyncio.gather(*(fails(record) for record in event["Records"]))
    ids = [record["messageId"] for record, has_failed in zip(event["Records"], failed, strict=True) if has_failed]
    return {"batchItemFailures": [{"itemIdentifier": id_} for id_ in ids]}
