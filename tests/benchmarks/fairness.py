"""Waiting time of one owner's job behind the jobs of another: `python -m tests.benchmarks.fairness`.

The wait is given relative to that of the same job on an idle service in the same run, through the real queue and
worker process.  A ratio of two is one more batch.
"""

import argparse
import asyncio
import statistics
import time
from functools import partial

from pipeline.clients.resources import Resources
from pipeline.domain import jobs
from tests.benchmarks.embedded_worker import accept_preview, embedded_store, worker_process
from tests.support.job_requests import store_upload
from tests.support.waiting import eventually

SYNTHESIS_SECONDS = 1.0
BATCH = 4
TEXT = "Hi."


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


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 100, 1000])
    parser.add_argument("--jobs", type=int, default=5, help="jobs of the other owner a size")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.sizes, arguments.jobs))


if __name__ == "__main__":
    main()
