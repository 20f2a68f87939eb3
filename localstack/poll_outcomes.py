"""For storages without event notifications to SQS, such as MinIO: lists new outcomes and sends their events."""

import asyncio
from datetime import timedelta

import environments  # noqa: F401  (makes the packages importable)
import structlog
from embedded.running_store import use_running_store_unless_configured
from provisioning.recovery import outcomes_since, send_event
from supervision.lifecycle import report_ready, run_until_stopped

from pipeline.clients.resources import Resources, connect
from pipeline.errors import Unavailable
from pipeline.settings import load_settings
from pipeline.telemetry.logs import configure_logging

log = structlog.get_logger()

PERIOD_SECONDS = 1
# Long enough for an outage, and for clock skew between the storage and this machine.
WINDOW = timedelta(minutes=5)


async def poll(resources: Resources, sent: set[str]) -> set[str]:
    """Send the events of new outcomes; return those sent so far that are still in the window."""
    found = {key async for key in outcomes_since(resources, resources.clock() - WINDOW)}
    for key in sorted(found - sent):
        await send_event(resources, key)
    return found


async def main() -> None:
    """Poll every second until cancelled."""
    settings = load_settings()
    configure_logging(settings, "poll-outcomes")
    sent: set[str] = set()
    async with connect(settings) as resources:
        report_ready()
        while True:
            try:
                sent = await poll(resources, sent)
            except Unavailable as error:
                log.warning("could not poll for outcomes; trying again", reason=error.message)
            await asyncio.sleep(PERIOD_SECONDS)


if __name__ == "__main__":
    use_running_store_unless_configured()
    run_until_stopped(main())
