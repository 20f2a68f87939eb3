"""CPU time of the embedded storage per call: `python -m tests.benchmarks.store_calls`.

With `--other`, the storage of another checkout is measured in turns with this one's: both have the same load.
"""

import argparse
import asyncio
import itertools
import os
import secrets
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from embedded import configuration
from embedded.storage.data_folder import AwsCredentials
from provisioning.provision import provision
from supervision.ports import free_port
from supervision.processes import responds

from pipeline.clients.resources import Resources, connect
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.settings import Settings
from tests.e2e.stack import ROOT

Call = Callable[[int], Awaitable[object]]
Times = dict[str, list[float]]


@asynccontextmanager
async def store_of(checkout: Path) -> AsyncIterator[tuple[int, Resources]]:
    """Start the storage of a checkout; yield its process id, and clients."""
    port, credentials = free_port(configuration.HOST), AwsCredentials("benchmark", secrets.token_hex())
    os.environ.update(configuration.client_environment(port, credentials))
    settings, localstack = Settings(), checkout / "localstack"
    with tempfile.TemporaryDirectory() as folder:
        environment = configuration.server_environment(port, Path(folder), settings, credentials)
        process = await asyncio.create_subprocess_exec(
            configuration.python(),
            "-m",
            "embedded.server",
            cwd=localstack,
            env={**os.environ, **environment, "PYTHONPATH": f"{checkout}:{localstack}"},
            stdin=subprocess.DEVNULL,
        )
        try:
            is_ready = responds(f"http://{configuration.HOST}:{port}/", 403)
            while not await is_ready():  # noqa: ASYNC110  (it happens in another process)
                await asyncio.sleep(0.1)
            await provision(settings)
            async with connect(settings) as resources:
                yield process.pid, resources
        finally:
            process.terminate()
            await process.wait()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process, in a finer unit than that of `psutil`."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


async def measure(pid: int, resources: Resources, count: int, times: Times) -> None:
    """Make the calls of a preview, and add the CPU time of each kind, in milliseconds."""
    bucket, queue = resources.bucket, resources.synthesis
    ids, small, large = [resources.new_id() for _ in range(count)], bytes(1024), secrets.token_bytes(60 * 1024)
    receipts: list[str] = []

    async def listing(number: int) -> None:
        async for _ in bucket.list(layout.job(ids[number])):
            pass

    async def receive(_: int) -> None:
        receipts.extend(message.receipt for message in await queue.receive(10, wait_seconds=1))

    async def delete(number: int) -> None:
        await queue.delete(receipts[number * 10 : number * 10 + 10])

    calls: dict[str, tuple[int, Call]] = {
        "put, 1 KB": (count, lambda n: bucket.put(layout.request(ids[n]), small, JSON)),
        "put, 60 KB": (count, lambda n: bucket.put(layout.preview(ids[n]), large, "audio/wav")),
        "get": (count, lambda n: bucket.get(layout.request(ids[n]))),
        "list": (count, listing),
        "put once": (count, lambda n: bucket.put_once(layout.outcome(ids[n]), small, JSON)),
        "send": (count, lambda n: queue.send(ids[n], group="owner")),
        "receive ten": (count // 10, receive),
        "delete ten": (count // 10, delete),
    }
    for name, (repeats, call) in calls.items():
        before = cpu_seconds(pid)
        for number in range(repeats):
            await call(number)
        times[name].append((cpu_seconds(pid) - before) * 1000 / repeats)


async def compare(checkouts: list[Path], count: int, rounds: int) -> None:
    """Measure several rounds of each storage, and print Markdown."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(store_of(checkout)) for checkout in checkouts]
        times: list[Times] = [defaultdict(list) for _ in stores]
        for number, (one, (pid, resources)) in itertools.product(
            range(rounds + 1), zip(times, stores, strict=True)
        ):
            await measure(pid, resources, count, one if number else defaultdict(list))
    means = [{name: sum(values) / rounds for name, values in one.items()} for one in times]
    print("| call | " + " | ".join(f"{checkout}, ms" for checkout in checkouts) + " |")
    print("|---|" + "---|" * len(checkouts))
    for name in means[0]:
        print(f"| {name} | " + " | ".join(f"{one[name]:.2f}" for one in means) + " |")
    print("| all | " + " | ".join(f"{sum(one.values()) / len(one):.2f}" for one in means) + " |")


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path, help="the folder of another checkout")
    parser.add_argument("--count", type=int, default=100, help="calls of each kind per round")
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    other = [arguments.other.resolve()] if arguments.other else []
    asyncio.run(compare([ROOT, *other], arguments.count, arguments.rounds))


if __name__ == "__main__":
    main()
