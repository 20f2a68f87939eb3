"""How many jobs a worker settles when synthesis takes no time: `python -m tests.benchmarks.worker_throughput`.

Previews of one upload wait in the embedded queue; a worker process with the mock engine works them off.  What a
machine with more cores could do follows from the CPU time that a job takes in each process, as none can use more
than a core.  What the worker's own process spends, its engine's thread can't have.
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


async def measure(resources: Resources, session_id: str, jobs: int, client_processes: int) -> None:
    """Work off so many jobs, and print a line of the table."""
    store = stores()
    for start in range(0, jobs, 20):
        await asyncio.gather(
            *(accept_preview(resources, session_id, None, text="Hi.") for _ in range(start, min(start + 20, jobs)))
        )
    environment = {"WORKER_BATCH_SIZE": str(BATCH), "WORKER_CLIENT_PROCESSES": str(client_processes)}
    with worker_process(**environment) as worker:
        # Its start is not counted.
        while await resources.synthesis.depth() >= jobs:  # noqa: ASYNC110  (it happens in another process)
            await asyncio.sleep(0.01)
        groups = {"worker": [worker], "clients": worker.children(), "store": store}
        before = {name: cpu_seconds(group) for name, group in groups.items()}
        began = time.monotonic()
        while await resources.synthesis.depth() > 0:  # noqa: ASYNC110  (it happens in another process)
            await asyncio.sleep(0.1)
        wall = time.monotonic() - began
        spent = {name: (cpu_seconds(group) - before[name]) * 1000 / jobs for name, group in groups.items()}
    per_process = {"worker": spent["worker"], "clients": spent["clients"] / max(1, client_processes)}
    print(
        f"| {client_processes} | {jobs / wall:.0f} | {spent['worker']:.2f} | {spent['clients']:.2f} "
        f"| {spent['store']:.2f} | **{1000 / max(per_process.values()):.0f}** |"
    )


async def compare(jobs: int, rounds: int) -> None:
    """Measure with and without client processes, in turns."""
    print(
        "| client processes | jobs/s here | CPU ms a job: worker | its clients | the storage "
        "| jobs/s, a core for each process |\n|---|---|---|---|---|---|"
    )
    async with embedded_store() as resources:
        session_id = await store_upload(resources)
        for _ in range(rounds):
            for client_processes in (0, 1, 2):
                await measure(resources, session_id, jobs, client_processes)


def main() -> None:
    """Measure and print, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    asyncio.run(compare(arguments.jobs, arguments.rounds))


if __name__ == "__main__":
    main()
