"""Waiting time of one owner's job behind the jobs of another: `python -m tests.benchmarks.fairness`.

The wait is given relative to that of the same job on an idle service in the same run, through the real queue and
worker process.  A ratio of two is one more batch.

With `--uploads`, the memory of the API and the worker before, during and after a flood of previews with uploads,
more than `JOBS_WAITING` allows.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import httpx
import psutil

from pipeline.clients.resources import Resources
from pipeline.domain import jobs
from tests.benchmarks.embedded_worker import accept_preview, embedded_store, worker_process
from tests.benchmarks.store_proxy import QUIET
from tests.e2e.client import recording
from tests.e2e.stack import Stack, running
from tests.support.job_requests import store_upload
from tests.support.waiting import eventually

SYNTHESIS_SECONDS = 1.0
BATCH = 4
TEXT = "Hi."
FLOOD_IN_FLIGHT, WARM_UP = 32, 16
SETTLED_SECONDS = 20
MEASURED = ("functions", "gpu_runner")


async def timed_job(resources: Resources, session_id: str, owner: str) -> float:
    """Return the seconds from accepting a job to its outcome."""
    began = time.monotonic()
    request = await accept_preview(resources, session_id, owner, text=TEXT)
    await eventually(partial(jobs.read_outcome, resources, request.job_id), seconds=3600)
    return time.monotonic() - began


async def flood(resources: Resources, session_id: str, owner: str, size: int) -> None:
    """Accept `size` jobs of one owner."""
    for start in range(0, size, 20):
        some = (
            accept_preview(resources, session_id, owner, text=TEXT) for _ in range(start, min(start + 20, size))
        )
        await asyncio.gather(*some)


async def measure(sizes: list[int], jobs_each: int) -> None:
    """Print a table of the waits behind several numbers of jobs."""
    environment = {"MOCK_DELAY_SECONDS": str(SYNTHESIS_SECONDS), "WORKER_BATCH_SIZE": str(BATCH)}
    async with embedded_store() as resources:
        session_id = await store_upload(resources)
        with worker_process(**environment):
            await timed_job(resources, session_id, "warm-up")
            print("| flood | p50 s | worst s | worst, of idle | in order of arrival s |\n|---|---|---|---|---|")
            idle = 0.0
            for size in [0, *sizes]:
                await flood(resources, session_id, "alice", size)
                waits = [await timed_job(resources, session_id, f"bob-{n}") for n in range(jobs_each)]
                idle = idle or statistics.median(waits)
                in_order = (size / BATCH + 1) * SYNTHESIS_SECONDS
                print(
                    f"| {size} | {statistics.median(waits):.2f} | {max(waits):.2f} | **{max(waits) / idle:.2f}** "
                    f"| {in_order:.0f} |"
                )


async def upload_flood(stack: Stack, count: int) -> None:
    """Request previews with uploads, and print their responses and the memory of the processes after a warm-up."""
    processes = {name: one for one in stack.children() for name in MEASURED if name in one.cmdline()}
    highest, statuses, retry_after = Counter[str](), Counter[str](), set[str]()
    body, form = recording(120), {"transcription": "Said.", "response_text": TEXT}

    async def one_after_another(client: httpx.AsyncClient, numbers: Iterator[int]) -> None:
        for _ in numbers:
            answer = await client.post(
                "/preview", files={"audio": body}, data=form, headers={"Prefer": "respond-async"}
            )
            statuses[str(answer.status_code)] += 1
            if answer.status_code == 503:
                retry_after.add(answer.headers["retry-after"])
            for name, megabytes in resident(processes).items():
                highest[name] = max(highest[name], megabytes)

    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as client:
        await one_after_another(client, iter(range(WARM_UP)))
        await eventually(partial(is_idle, client), seconds=600)
        before = resident(processes)
        statuses.clear()
        numbers = iter(range(count))
        await asyncio.gather(*(one_after_another(client, numbers) for _ in range(FLOOD_IN_FLIGHT)))
        await eventually(partial(is_idle, client), seconds=600)
    await asyncio.sleep(SETTLED_SECONDS)
    after = resident(processes)
    print(f"\nResponses: {dict(statuses)}, Retry-After: {sorted(retry_after)}\n")
    print("| process | before MiB | highest | after |\n|---|---|---|---|")
    for name in processes:
        print(f"| {name} | {before[name]} | {highest[name]} | {after[name]} |")


async def is_idle(client: httpx.AsyncClient) -> bool:
    """Return whether no job waits or is processed."""
    queue = (await client.get("/status")).json()["queues"]["synthesis"]
    return queue is not None and not queue["waiting"] + queue["taken"]


def resident(processes: Mapping[str, psutil.Process]) -> dict[str, int]:
    """Return the resident memory of processes in MiB."""
    return {name: process.memory_info().rss >> 20 for name, process in processes.items()}


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 100, 1000])
    parser.add_argument("--jobs", type=int, default=5, help="jobs of the other owner a size")
    parser.add_argument("--uploads", type=int, default=0, help="only a flood of this many previews with uploads")
    arguments = parser.parse_args()
    if not arguments.uploads:
        asyncio.run(measure(arguments.sizes, arguments.jobs))
        return
    environment = QUIET | {"JOBS_WAITING": str(arguments.uploads // 8), "MOCK_DELAY_SECONDS": "2"}
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "flood", environment) as stack:
        asyncio.run(upload_flood(stack, arguments.uploads))


if __name__ == "__main__":
    main()
