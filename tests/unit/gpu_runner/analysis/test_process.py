"""The child process of the analyses."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gpu_runner.analysis.process import NICENESS, AnalysisFailed, AnalysisProcess


@pytest.fixture
async def process() -> AsyncIterator[AnalysisProcess]:
    running = AnalysisProcess(timeout_seconds=20)
    yield running
    running.close()


async def test_function_runs_in_child_of_low_priority(process: AnalysisProcess) -> None:
    child = await process.run(os.getpid)
    assert child != os.getpid()
    assert await process.run(os.getpid) == child
    assert await process.run(os.getpriority, os.PRIO_PROCESS, 0) == NICENESS


async def test_exception_is_reported(process: AnalysisProcess) -> None:
    with pytest.raises(AnalysisFailed, match="FileNotFoundError"):
        await process.run(os.listdir, "/no/such/folder")
    assert await process.run(len, "abc") == 3


async def test_dead_process_is_replaced(process: AnalysisProcess) -> None:
    with pytest.raises(AnalysisFailed):
        await process.run(os._exit, 1)
    assert await process.run(len, "abc") == 3


async def test_slow_function_is_ended() -> None:
    process = AnalysisProcess(timeout_seconds=0.01)
    with pytest.raises(AnalysisFailed, match="TimeoutError"):
        await process.run(time.sleep, 60)
    process.close()


async def test_close_ends_running_function_without_warning(tmp_path: Path) -> None:
    process, pipe = AnalysisProcess(), tmp_path / "pipe"
    os.mkfifo(pipe)
    running = asyncio.create_task(process.run(Path.read_bytes, pipe))
    with await asyncio.to_thread(pipe.open, "wb"), capture_logs() as logs:  # opens when the function runs
        process.close()
        with pytest.raises(AnalysisFailed):
            await running
    assert logs == []
