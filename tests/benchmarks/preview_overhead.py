"""Overhead of the pipeline for a preview without synthesis time: `python -m tests.benchmarks.preview_overhead`.

Previews over HTTP with an upload, through the real processes, are compared with a lower bound: the same S3 and SQS
calls from one process, concurrent where possible, against the same storage in the same run. The time of the mock
engine is measured beside them and subtracted. The marks are off: `tests.benchmarks.marking` measures them.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import psutil
from provisioning.provision import provision

from gpu_runner.engines import Reference
from gpu_runner.engines.mock import MockEngine, MockPrompt, hum
from pipeline.audio import reference_audio
from pipeline.audio.wav import WAV
from pipeline.clients.resources import Resources, connect
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.domain.sessions import TEXT
from tests.benchmarks.peak_memory import peak_bytes
from tests.benchmarks.store_proxy import QUIET, Counting, proxied, settings_of
from tests.e2e.client import recording
from tests.e2e.stack import Stack, running

TEXT_TO_SPEAK = "Just a few words."
SETTLED_SECONDS = 1.5
IDLE_SECONDS = 10.0  # a multiple of all polling intervals

Run = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of runs at one concurrency, in milliseconds."""

    p50: float
    p95: float
    per_second: float


async def timed(run: Run, *, in_flight: int, count: int) -> Timing:
    """Run `count` times with this concurrency, and return the times."""
    taken: list[float] = []
    numbers = iter(range(count))

    async def one_after_another() -> None:
        for _ in numbers:
            began = time.perf_counter()
            await run()
            taken.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
    wall = time.perf_counter() - began
    cuts = statistics.quantiles(taken, n=20)
    return Timing(statistics.median(taken), cuts[18], count / wall)


def preview(client: httpx.AsyncClient, body: bytes, url: str = "") -> Run:
    """Return a run that uploads a recording and gets a preview."""

    async def run() -> None:
        answer = await client.post(
            f"{url}/preview",
            files={"audio": ("voice.wav", body, WAV)},
            data={"transcription": "What is said.", "response_text": TEXT_TO_SPEAK},
        )
        answer.raise_for_status()

    return run


def floor(resources: Resources, source: bytes, audio: bytes, embedding: bytes, record: bytes) -> Run:
    """Return a run that makes only the storage and queue calls of one preview."""
    bucket = resources.bucket

    async def run() -> None:
        job_id, session_id = resources.new_id(), resources.new_id()
        keys = layout.session(session_id)
        await asyncio.gather(
            bucket.put(keys.audio, source, WAV),
            bucket.put(keys.transcription, b"What is said.", TEXT),
            bucket.put(layout.request(job_id), record, JSON),
            bucket.put(layout.derived_job(session_id, job_id), b"{}", JSON),
        )
        await resources.synthesis.send(job_id)
        taken = await resources.synthesis.receive(1, wait_seconds=5)
        await bucket.get(keys.audio)
        await asyncio.gather(
            bucket.put(keys.embedding, embedding, JSON), bucket.put_once(layout.preview(job_id), audio, WAV)
        )
        await bucket.put_once(layout.outcome(job_id), record, JSON)
        messages, _ = await asyncio.gather(
            resources.events.receive(1, wait_seconds=5),
            bucket.put(layout.fingerprint(None, job_id) + "000", b"", TEXT),
        )
        await bucket.get(layout.outcome(job_id))
        await asyncio.gather(
            resources.synthesis.delete([message.receipt for message in taken]),
            resources.events.delete([message.receipt for message in messages]),
        )

    return run


async def engine(source: bytes) -> None:
    """Make a prompt and the audio as the worker does."""

    def run() -> None:
        reference = Reference(reference_audio.decode_wav(source), "What is said.")
        prompt = MockEngine().make_prompt(reference)
        assert isinstance(prompt, MockPrompt)
        hum(TEXT_TO_SPEAK, prompt)

    await asyncio.to_thread(run)


async def compare(stack: Stack, *, counts: Mapping[int, int], rounds: int) -> None:
    """Measure previews and their lower bound alternately."""
    settings = settings_of(stack, "floor")
    await provision(settings)
    source = recording(120)
    print("| in flight | | p50 ms | p95 ms | previews/s |\n|---|---|---|---|---|")
    async with (
        connect(settings) as resources,
        httpx.AsyncClient(base_url=stack.url, timeout=60, limits=httpx.Limits(max_connections=64)) as client,
    ):
        answer = await client.post(
            "/preview", files={"audio": source}, data={"response_text": TEXT_TO_SPEAK, "transcription": "x"}
        )
        runs: dict[str, Run] = {
            "preview": preview(client, source),
            "floor": floor(resources, source, answer.content, b"{}", b"{}"),
            "engine": partial(engine, source),
        }
        for in_flight, count in counts.items():
            measured: dict[str, list[Timing]] = {name: [] for name in runs}
            for _, (name, run) in itertools.product(range(rounds), runs.items()):
                measured[name].append(await timed(run, in_flight=in_flight, count=count))
            for name, timings in measured.items():
                _print(in_flight, name, timings)
            ratio = statistics.median((a.p50 - b.p50) / c.p50 for a, c, b in zip(*measured.values(), strict=True))
            print(f"| {in_flight} | **ratio** | **{ratio:.2f}** | | |")


def _print(in_flight: int, name: str, timings: list[Timing]) -> None:
    p50, p95, rate = (
        statistics.median(getattr(timing, what) for timing in timings) for what in ("p50", "p95", "per_second")
    )
    print(f"| {in_flight} | {name} | {p50:.1f} | {p95:.1f} | {rate:.1f} |")


async def count_requests(store: Stack, folder: Path, counts: Mapping[int, int]) -> None:
    """Print the storage and queue requests of one preview, without those of idle processes."""
    counting = Counting(settings_of(store, "counted").endpoint_for("s3") or "")
    print("\n| in flight | requests per preview | of which |\n|---|---|---|")
    async with (
        proxied(store, counting, folder / "counted") as stack,
        httpx.AsyncClient(base_url=stack.url, timeout=60) as client,
    ):
        for in_flight, count in counts.items():
            await _count(counting, preview(client, recording(120)), in_flight, count, "")
            session = (await preview_session(client)).headers["x-session-id"]
            await _count(counting, preview_again(client, session), in_flight, count, " (voice known)")


async def preview_session(client: httpx.AsyncClient, url: str = "") -> httpx.Response:
    """Upload a recording."""
    data = {"response_text": TEXT_TO_SPEAK}
    return await client.post(f"{url}/preview", files={"audio": recording(120)}, data=data)


def preview_again(client: httpx.AsyncClient, session_id: str, url: str = "") -> Run:
    """Return a run that gets another preview of an earlier upload."""

    async def run() -> None:
        data = {"session_id": session_id, "response_text": TEXT_TO_SPEAK}
        (await client.post(f"{url}/preview", data=data)).raise_for_status()

    return run


async def _count(counting: Counting, run: Run, in_flight: int, count: int, what: str) -> None:
    await run()
    await asyncio.sleep(SETTLED_SECONDS)  # delayed requests, such as deletions, belong to earlier previews
    counting.counts.clear()
    await asyncio.sleep(IDLE_SECONDS)
    idle, began = Counter(counting.counts), time.monotonic()
    counting.counts.clear()
    await timed(run, in_flight=in_flight, count=count)
    await asyncio.sleep(SETTLED_SECONDS)
    idle_share = (time.monotonic() - began) / IDLE_SECONDS
    made = {name: (number - idle[name] * idle_share) / count for name, number in counting.counts.most_common()}
    total = sum(made.values())
    parts = ", ".join(f"{name} {number:.2f}" for name, number in made.items() if number > 0.005)
    print(f"| {in_flight}{what} | **{total:.1f}** | {parts} |")


def print_memory(stack: Stack) -> None:
    """Print the peak resident memory of each process."""
    print("\n| process | peak MiB |\n|---|---|")
    for process in stack.children():
        print(f"| {process_name(process)} | {peak_bytes(process.pid) / 2**20:.0f} |")


def process_name(process: psutil.Process) -> str:
    """Return a short name from a process's command line."""
    return " ".join(Path(part).name for part in process.cmdline()[1:])[:60]


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="previews a measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, in turns")
    arguments = parser.parse_args()
    counts = {1: arguments.count, 16: 4 * arguments.count}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(folder / "timed", {**QUIET, "MARK": "off"}) as stack:
            asyncio.run(compare(stack, counts=counts, rounds=arguments.rounds))
            print_memory(stack)
            asyncio.run(count_requests(stack, folder, counts))


if __name__ == "__main__":
    main()
