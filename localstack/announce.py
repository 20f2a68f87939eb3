"""For storages that can't tell a queue of new objects, such as MinIO: looks for new outcomes, and tells of them."""

import asyncio
from datetime import timedelta

import place  # noqa: F401  (makes the packages importable)
import structlog
from child import mark_ready, run
from recover import announce, outcomes_since

from pipeline.clients.resources import Resources, connect
from pipeline.errors import Unavailable
from pipeline.logs import configure_logging
from pipeline.settings import load_settings

log = structlog.get_logger()

PERIOD_SECONDS = 1
# How far back a look goes: wide enough for an outage, and for the storage's clock to differ from ours.
WINDOW = timedelta(minutes=5)


async def look(resources: Resources, told: set[str]) -> set[str]:
    """Tell of the outcomes that are new; those told by now and still in the window."""
    found = {key async for key in outcomes_since(resources, resources.clock() - WINDOW)}
    for key in sorted(found - told):
        await announce(resources, key)
    return found


async def main() -> None:
    """Look every second until cancelled."""
    settings = load_settings()
    configure_logging(settings, "announce")
    told: set[str] = set()
    async with connect(settings) as resources:
        mark_ready()
        while True:
            try:
                told = await look(resources, told)
            except Unavailable as error:
                log.warning("could not look for new outcomes; trying again", reason=error.message)
            await asyncio.sleep(PERIOD_SECONDS)


if __name__ == "__main__":
    run(main())
