"""What the supervisor's own programs share: how they stop, and how they say that they are at work."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

READY_FILE = "READY_FILE"


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run until done, or until Ctrl-C or SIGTERM, which cancel it so that it can tidy up."""

    async def cancellable() -> None:
        task = asyncio.current_task()
        if task is not None and sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await main

    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(cancellable())


def mark_ready() -> None:
    """Tell the supervisor, if it is one that started this, that the work has begun."""
    if path := os.environ.get(READY_FILE):
        Path(path).touch()
