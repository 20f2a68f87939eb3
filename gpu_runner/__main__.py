"""`python -m gpu_runner`: one worker, until SIGTERM or SIGINT. `python -m gpu_runner gpu-check` checks the GPU."""

import asyncio
import importlib
import logging
import os
import signal
import sys
from functools import partial
from types import FrameType
from typing import NoReturn

from gpu_runner.analysis.process import AnalysisProcess
from gpu_runner.engines import CannotLoad, EngineLost
from gpu_runner.engines.load import load_engine
from gpu_runner.health import CannotListen
from gpu_runner.worker import run_worker
from pipeline.clients.resources import connect
from pipeline.environment import SettingsError
from pipeline.errors import Misconfigured
from pipeline.settings import Settings, load_settings
from pipeline.telemetry import tracing
from pipeline.telemetry.logs import configure_logging

OK, FAILED, MISCONFIGURED = 0, 1, 2


def main() -> int:
    """Run the worker. The exit status is 0 after a graceful stop."""
    try:
        settings = load_settings()
    except SettingsError as error:
        return _fail(str(error), MISCONFIGURED)
    configure_logging(settings, "gpu_runner")
    if sys.argv[1:2] == ["gpu-check"]:  # imports torch
        check = importlib.import_module("gpu_runner.engines.qwen.gpu_check")
        return int(check.main(settings, sys.argv[2:]))
    tracing.configure_tracing(settings, "worker")
    try:
        asyncio.run(_run(settings))
    except (Misconfigured, SettingsError) as error:
        return _fail(str(error), MISCONFIGURED)
    except (CannotLoad, CannotListen) as error:
        return _fail(str(error), FAILED)
    except EngineLost as error:
        return _fail(f"The engine is lost: {error}. Restart the worker.", FAILED)
    finally:
        tracing.flush()
    return OK


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    _handle_signals(stop)
    async with connect(settings) as resources:
        await run_worker(resources, partial(load_engine, settings), stop, analysis=AnalysisProcess())


def _handle_signals(stop: asyncio.Event) -> None:
    """Stop gracefully on the first signal, at once on the second. Loop handlers do not exist on Windows."""
    loop = asyncio.get_running_loop()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        loop.call_soon_threadsafe(stop.set)

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):  # the last is how Windows stops a process of a group
        if number := getattr(signal, name, None):
            signal.signal(number, handle)


def _fail(message: str, status: int) -> int:
    sys.stderr.write(message + "\n")
    return status


def _exit(status: int) -> NoReturn:
    """End the process at once: all results are written, and the engine's thread may still be running.

    Unloading a model library takes Python seconds that a stop may not have.
    """
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _exit(main())
