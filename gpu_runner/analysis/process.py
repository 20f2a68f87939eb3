"""A child process of low priority that runs analyses, so that they take no time from the engine's threads."""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import structlog

TIMEOUT_SECONDS = 60.0
NICENESS = 19
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

T = TypeVar("T")

log = structlog.get_logger(__name__)


class AnalysisFailed(Exception):
    """The analysis raised an exception, took too long, or its process died."""


class AnalysisProcess:
    """Runs one function at a time in a child process. The process starts with the first one, and keeps its models.

    The child ends with this process, which holds the only other end of its pipe.
    """

    def __init__(self, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout_seconds = timeout_seconds
        self._thread = ThreadPoolExecutor(1, "analysis")
        self._child: tuple[Any, Connection] | None = None

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function of a module in the child process, and return its result. Arguments are pickled.

        Raises
        ------
        AnalysisFailed
            It raised an exception, it took too long, or the process died.
        """
        result: T = await asyncio.get_running_loop().run_in_executor(self._thread, self._call, function, args)
        return result

    def close(self) -> None:
        """End the child process at once, and reject further functions."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._end_child()

    def _end_child(self) -> None:
        if self._child:
            process, connection = self._child
            self._child = None
            process.kill()
            connection.close()

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        try:
            connection = self._connection()
            connection.send((function, args))
            if not connection.poll(self._timeout_seconds):
                raise TimeoutError
            error, result = connection.recv()
        except (OSError, EOFError) as failure:  # TimeoutError is an OSError
            if self._child:  # else `close` has ended it
                self._end_child()
                log.warning("analysis process ended", function=function.__name__, reason=repr(failure))
            raise AnalysisFailed(repr(failure)) from failure
        if error:
            log.warning("analysis failed", function=function.__name__, reason=error)
            raise AnalysisFailed(error)
        return result

    def _connection(self) -> Connection:
        if self._child is None:
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), name="analysis", daemon=True)
            process.start()
            theirs.close()
            self._child = process, ours
        return self._child[1]


def _serve(connection: Connection) -> None:
    """Run functions until the parent closes the pipe. numpy is imported after the number of threads is set."""
    os.environ.update(dict.fromkeys(_THREAD_SETTINGS, "1"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        os.nice(NICENESS)
    with suppress(EOFError, OSError):
        while True:
            function, args = connection.recv()
            connection.send(_result(function, args))


def _result(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[str | None, Any]:
    try:
        return None, function(*args)
    except Exception as error:
        return repr(error), None
