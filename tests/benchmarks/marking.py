"""Cost of the marks for a preview: `python -m tests.benchmarks.marking`. `TTS_BACKEND` selects the engine.

Services with different marks run at the same time, and their previews take turns: other load affects all of them.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.benchmarks.preview_overhead import TEXT_TO_SPEAK, Run, preview, preview_again, preview_session
from tests.benchmarks.store_proxy import QUIET
from tests.e2e.client import recording
from tests.e2e.stack import Stack, running

MARKS = ("off", "watermark", "c2pa", "both")
WARM_UP = 5
PAUSE_SECONDS = 0.08  # for the work of the previous preview after its response


def worker_seconds(stack: Stack) -> float:
    """Return the CPU time that the worker has used."""
    (worker,) = (process for process in stack.children() if "gpu_runner" in process.cmdline())
    times = worker.cpu_times()
    return float(times.user + times.system)


async def compare(stacks: dict[str, Stack], count: int) -> None:
    """Measure previews of the services, and print a table."""
    source = recording(120)
    print(f"{TEXT_TO_SPEAK!r}, {os.environ.get('TTS_BACKEND', 'mock')}, {count} previews each")
    print("| voice | `MARK` | p50 ms | p90 ms | CPU ms of the worker |\n|---|---|---|---|---|")
    async with httpx.AsyncClient(timeout=60) as client:
        new = {mark: preview(client, source, stack.url) for mark, stack in stacks.items()}
        await _measure("new upload", stacks, new, count)
        sessions = {mark: await preview_session(client, stack.url) for mark, stack in stacks.items()}
        known = {
            mark: preview_again(client, answer.headers["x-session-id"], stacks[mark].url)
            for mark, answer in sessions.items()
        }
        await _measure("used before", stacks, known, count)


async def _measure(voice: str, stacks: dict[str, Stack], runs: dict[str, Run], count: int) -> None:
    """Measure the runs of the services in turns, and print rows of the table."""
    taken: dict[str, list[float]] = {mark: [] for mark in stacks}
    for _ in range(WARM_UP):
        for run in runs.values():
            await run()
    before = {mark: worker_seconds(stack) for mark, stack in stacks.items()}
    for _ in range(count):
        for mark, run in runs.items():
            await asyncio.sleep(PAUSE_SECONDS)
            began = time.perf_counter()
            await run()
            taken[mark].append((time.perf_counter() - began) * 1000)
    for mark, times in taken.items():
        p50, p90 = statistics.median(times), statistics.quantiles(times, n=10)[-1]
        cpu = (worker_seconds(stacks[mark]) - before[mark]) * 1000 / count
        print(f"| {voice} | {mark} | {p50:.1f} | {p90:.1f} | {cpu:.1f} |")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.marking", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="previews of each service")
    parser.add_argument("--marks", nargs="+", default=MARKS, choices=MARKS)
    arguments = parser.parse_args()
    engine = {"TTS_BACKEND": os.environ.get("TTS_BACKEND", "mock")}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running_stacks:
        stacks = {
            mark: running_stacks.enter_context(running(Path(folder) / mark, {**QUIET, **engine, "MARK": mark}))
            for mark in arguments.marks
        }
        asyncio.run(compare(stacks, arguments.count))


if __name__ == "__main__":
    main()
