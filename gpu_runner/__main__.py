"""`python -m gpu_runner`: one worker, until SIGTERM or SIGINT."""

import asyncio
import logging
import os
import signal
import sys
from functools import partial
from types import FrameType
from typing import NoReturn

from gpu_runner.engines import CannotLoad, EngineLost
from gpu_runner.engines.load import load_engine
from gpu_runner.health import CannotListen
from gpu_runner.worker import work
from pipeline.clients.resources import connect
from pipeline.logs import configure_logging
from pipeline.settings import Settings, SettingsError, load_settings

OK, FAILED, MISCONFIGURED = 0, 1, 2


def main() -> int:
    """Run the worker; the exit status is 0 after an orderly stop."""
    try:
        settings = load_settings()
    except SettingsError as error:
        return _complain(str(error), MISCONFIGURED)
    configure_logging(settings, "gpu_runner")
    try:
        asyncio.run(_run(settings))
    except (CannotLoad, CannotListen) as error:
        return _complain(str(error), FAILED)
    except EngineLost as error:
        return _complain(f"The engine is lost: {error}. A new process has to take over.", FAILED)
    return OK


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    _heed_signals(stop)
    async with connect(settings) as resources:
        await work(resources, partial(load_engine, settings), stop)


def _heed_signals(stop: asyncio.Event) -> None:
    """Stop in order on the first signal, at once on the second; not by the loop, which on Windows can't."""
    loop = asyncio.get_running_loop()

    def heed(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        loop.call_soon_threadsafe(stop.set)

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):  # the last is how Windows stops a process of a group
        if number := getattr(signal, name, None):
            signal.signal(number, heed)


def _complain(message: str, status: int) -> int:
    sys.stderr.write(message + "\n")
    return status


def _leave(status: int) -> NoReturn:
    """End the process at once: all is written, and the engine may be in its thread still.

    Taking a model library apart in order takes Python seconds that a stop may not have.
    """
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _leave(main())
