"""Recorded events of AWS Lambda in `tests/events/`, with placeholders in capitals."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from functions.aws.process import Event, Process
from pipeline.clients.resources import Resources

EVENTS = Path(__file__).parents[1] / "events"


class Context:
    """The part of Lambda's context object that the functions use."""

    aws_request_id = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"


def recorded(name: str, **values: str) -> Event:
    """Return an event with these values for its placeholders."""
    event: Event = _filled(json.loads((EVENTS / f"{name}.json").read_text()), values)
    return event


def _filled(value: Any, values: dict[str, str]) -> Any:
    match value:
        case str():
            for place, text in values.items():
                value = value.replace(place, text)
            return value
        case list():
            return [_filled(inner, values) for inner in value]
        case dict():
            return {name: _filled(inner, values) for name, inner in value.items()}
        case _:
            return value


@contextmanager
def process_of(resources: Resources) -> Iterator[Process]:
    """Yield the process of a function over given resources, with its own event loop."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield Process(loop, resources)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        loop.close()
