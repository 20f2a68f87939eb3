"""Events as AWS sends them to functions, recorded in `events/`; what stands in capitals is a test's to say."""

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
    """What Lambda passes along with an event, as far as it is looked at."""

    aws_request_id = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"


def recorded(name: str, **said: str) -> Event:
    """Return an event with these values in their places."""
    event: Event = _said(json.loads((EVENTS / f"{name}.json").read_text()), said)
    return event


def _said(value: Any, said: dict[str, str]) -> Any:
    match value:
        case str():
            for place, text in said.items():
                value = value.replace(place, text)
            return value
        case list():
            return [_said(inner, said) for inner in value]
        case dict():
            return {name: _said(inner, said) for name, inner in value.items()}
        case _:
            return value


@contextmanager
def process_of(resources: Resources) -> Iterator[Process]:
    """Run a function's process over given resources, on an event loop of its own."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield Process(loop, resources)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        asyncio.set_event_loop(None)
        loop.close()
