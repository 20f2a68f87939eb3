"""Start and stop of the programs that the supervisor runs: signals, and the file that reports them ready."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

READY_FILE = "READY_FILE"


def run_until_stopped(main: Coroutine[Any, Any, None]) -> None:
    """Run until done, or until Ctrl-C or SIGTERM, which cancel it so that it can clean up."""

    async def cancellable() -> None:
        task = asyncio.current_task()
        if task is not None and sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await main

    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(cancellable())


def report_ready() -> None:
    """Create the file that `READY_FILE` names, which the supervisor waits for; without it, do nothing."""
    if path := os.environ.get(READY_FILE):
        Path(path).touch()
