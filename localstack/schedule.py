"""The local equivalent of the EventBridge schedule: sweeps every minute, and once at the start."""

import asyncio
from datetime import datetime
from typing import Any

import environments  # noqa: F401  (makes the packages importable)
import structlog
from embedded.running_store import use_running_store_unless_configured
from supervision.lifecycle import report_ready, run_until_stopped

from functions.background import sweep
from pipeline.access.audit.chain import expire
from pipeline.clients.resources import Resources, connect
from pipeline.contract.records import format_utc
from pipeline.errors import Unavailable
from pipeline.settings import load_settings
from pipeline.telemetry.logs import configure_logging

log = structlog.get_logger()

PERIOD_SECONDS = 60


async def tick(resources: Resources) -> None:
    """Sweep once, and delete expired audit entries once an hour; a failure is logged and left to the next time."""
    event: dict[str, Any] = {"source": "aws.scheduler", "time": format_utc(resources.clock())}
    try:
        await sweep.handle(resources, event)
        if resources.clock().minute == 0:
            await expire(resources)
    except Unavailable as error:
        log.warning("could not sweep; trying again next minute", reason=error.message)
    except Exception:
        log.exception("the sweep failed; trying again next minute")


def seconds_to_next(now: datetime) -> float:
    """Return the seconds to the next whole minute, so that several machines sweep at the same time."""
    return PERIOD_SECONDS - now.timestamp() % PERIOD_SECONDS


async def main() -> None:
    """Sweep every minute until cancelled."""
    settings = load_settings()
    configure_logging(settings, "schedule")
    async with connect(settings) as resources:
        report_ready()
        while True:
            await tick(resources)
            await asyncio.sleep(seconds_to_next(resources.clock()))


if __name__ == "__main__":
    use_running_store_unless_configured()
    run_until_stopped(main())
