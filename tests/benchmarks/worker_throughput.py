"""Measures the jobs per second of a worker without synthesis: `python -m tests.benchmarks.worker_throughput`.

Previews of one upload wait in the embedded queue, and a worker process with the mock engine processes them. The
throughput with more cores follows from the CPU time of a job in each process.
"""

import argparse
import asyncio
import time

import psutil

from pipeline.clients.resources import Resources
from tests.benchmarks.embedded_worker import accept_preview, embedded_store, worker_process
from tests.support.job_requests import store_upload

BATCH = 64


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time that processes have used."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def stores() -> list[psutil.Process]:
    """Return the processes of the embedded AWS."""
    children = psutil.Process().children(recursive=True)
    return [process for process in children if "embedded.server" in " ".join(process.cmdline())]


async def measure(resources: Resources, session_id: str, jobs: int) -> None:
    """Process this many jobs, and print a line of the table."""
    store = stores()
    for start in range(0, jobs, 20):
        await asyncio.gather(
            *(accept_preview(resources, session_id, None, text="Hi.") for _ in range(start, min(start + 20, jobs)))
        )
    with worker_process(WORKER_BATCH_SIZE=str(BATCH)) as worker:
        # The start of the worker is not counted.
        while await resources.synthesis.depth() >= jobs:  # noqa: ASYNC110  (it happens in another process)
            await asyncio.sleep(0.01)
        groups = {"worker": [worker], "store": store}
        before = {name: cpu_seconds(group) for name, group in groups.items()}
        began = time.monotonic()
        while await resources.synthesis.depth() > 0:  # noqa: ASYNC110  (it happens in another process)
            await asyncio.sleep(0.1)
        wall = time.monotonic() - began
        used = {name: (cpu_seconds(group) - before[name]) * 1000 / jobs for name, group in groups.items()}
    print(
        f"| {jobs / wall:.0f} | {used['worker']:.2f} | {used['store']:.2f} | **{1000 / max(used.values()):.0f}** |"
    )


async def repeat(jobs: int, rounds: int) -> None:
    """Measure several rounds."""
    print("| jobs/s here | CPU ms per job: worker | storage | jobs/s with a core per process |\n|---|---|---|---|")
    async with embedded_store() as resources:
        session_id = await store_upload(resources)
        for _ in range(rounds):
            await measure(resources, session_id, jobs)


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    asyncio.run(repeat(arguments.jobs, arguments.rounds))


if __name__ == "__main__":
    main()
