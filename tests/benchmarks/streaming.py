"""Latency and continuity of streamed audio: `python -m tests.benchmarks.streaming`.

The time to the first audio is compared with a lower bound: the storage and queue calls before it, made by one
process against the same storage.  Then many clients stream at the same time from an engine that runs in real time.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from provisioning.provision import provision
from websockets.asyncio.client import ClientConnection, connect

from pipeline.clients import resources as clients
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from tests.benchmarks.preview_overhead import (
    TEXT_TO_SPEAK,
    Run,
    Timing,
    preview_session,
    print_memory,
    process_name,
    timed,
)
from tests.benchmarks.store_proxy import QUIET, settings_of
from tests.e2e.stack import Stack, running

PLAYER_BUFFER_SECONDS = 0.5
COMING_SECONDS = 10.0
PAUSE_SECONDS = 0.1  # between streams; without it, they would wait for the limit of requests per second
SENTENCE = "One, two, three, four, five, six, seven, eight, nine, ten. "


def over_http(client: httpx.AsyncClient, session_id: str, seconds: list[float]) -> Run:
    """Return a run that streams a preview over HTTP and measures the time to the first audio."""
    form = {"session_id": session_id, "response_text": TEXT_TO_SPEAK}

    async def run() -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        began = time.perf_counter()
        async with client.stream("POST", "/preview?stream=1&format=pcm", data=form) as answer:
            answer.raise_for_status()
            parts = answer.aiter_raw()
            await anext(parts)
            seconds.append(time.perf_counter() - began)
            async for _ in parts:
                pass

    return run


def over_websocket(socket: ClientConnection, session_id: str, seconds: list[float]) -> Run:
    """Return a run that streams a preview over a WebSocket and measures the time to the first audio."""
    data = {"session_id": session_id, "text": TEXT_TO_SPEAK, "stream": True}

    async def run() -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        began = time.perf_counter()
        await socket.send(json.dumps({"type": "generate_preview", "data": data}))
        first = None
        async for message in messages(socket):
            if first is None and message["type"] == "tts_audio":
                first = time.perf_counter() - began
        assert first is not None
        seconds.append(first)

    return run


async def messages(socket: ClientConnection) -> Any:
    """Yield the messages of one job until it ends."""
    while True:
        message: dict[str, Any] = json.loads(await socket.recv())
        yield message
        if message["type"] not in {"tts_audio", "progress"}:
            assert message["type"] == "tts_complete", message
            return


def floor(resources: Resources, seconds: list[float]) -> Run:
    """Return a run that makes only the storage and queue calls before the first audio."""
    bucket, session_id = resources.bucket, resources.new_id()

    async def run() -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        job_id, began = resources.new_id(), time.perf_counter()
        await bucket.head(layout.session(session_id).audio)
        await bucket.put(layout.request(job_id), b"{}", JSON)
        await resources.synthesis.send(job_id)
        taken = await resources.synthesis.receive(1, wait_seconds=5)
        seconds.append(time.perf_counter() - began)
        await resources.synthesis.delete([message.receipt for message in taken])

    return run


async def first_audio(stack: Stack, *, count: int, rounds: int) -> None:
    """Time the first audio and its floor in turns."""
    settings = settings_of(stack, "floor")
    await provision(settings)
    seconds: Mapping[str, list[float]] = {"HTTP": [], "WebSocket": [], "floor": []}
    async with (
        clients.connect(settings) as resources,
        httpx.AsyncClient(base_url=stack.url, timeout=60) as client,
        connect(stack.socket_url, max_size=None) as socket,
    ):
        session_id = (await preview_session(client)).headers["x-session-id"]
        runs = {
            "HTTP": over_http(client, session_id, seconds["HTTP"]),
            "WebSocket": over_websocket(socket, session_id, seconds["WebSocket"]),
            "floor": floor(resources, seconds["floor"]),
        }
        for _, run in itertools.product(range(rounds), runs.values()):
            await timed(run, in_flight=1, count=count)
    print("| first audio | p50 ms | p95 ms |\n|---|---|---|")
    for name, taken in seconds.items():
        cuts = statistics.quantiles(taken, n=20)
        timing = Timing(1000 * statistics.median(taken), 1000 * cuts[18], 0)
        print(f"| {name} | {timing.p50:.1f} | {timing.p95:.1f} |")


@dataclass(frozen=True, slots=True)
class StreamTiming:
    """Measurements of one stream, in seconds."""

    first: float
    """The time from the request to the first audio."""
    longest_gap: float
    """The longest time between two chunks."""
    behind: float
    """The buffer that a player needs: the longest time by which a chunk was late for those before it."""
    missing: int
    """The number of missing chunks."""
    seconds: float
    """The length of the audio."""


async def listen(url: str, session_id: str, text: str, after_seconds: float) -> StreamTiming:
    """Request a stream after a delay, and measure it."""
    await asyncio.sleep(after_seconds)
    async with connect(url, max_size=None, open_timeout=60) as socket:
        data = {"session_id": session_id, "text": text, "stream": True}
        began = time.perf_counter()
        await socket.send(json.dumps({"type": "generate_preview", "data": data}))
        times, chunks = [], []
        async for message in messages(socket):
            if message["type"] == "tts_audio":
                times.append(time.perf_counter())
                chunks.append(message["data"])
    assert chunks, "no audio came"
    played = [0.0, *(chunk["audio_seconds"] for chunk in chunks)]
    behind = max(at - times[0] - before for at, before in zip(times, played, strict=False))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return StreamTiming(times[0] - began, max(gaps), behind, chunks[-1]["seq"] + 1 - len(chunks), played[-1])


async def many(stack: Stack, *, listeners: int, sentences: int) -> None:
    """Stream to many clients, which start one after the other in the first seconds."""
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as client:
        session_id = (await preview_session(client)).headers["x-session-id"]
    text = SENTENCE * sentences
    pauses = [COMING_SECONDS * number / listeners for number in range(listeners)]
    before = cpu_seconds(stack)
    listening = (listen(stack.socket_url, session_id, text, pause) for pause in pauses)
    results = await asyncio.gather(*listening, return_exceptions=True)
    used = {name: seconds - before[name] for name, seconds in cpu_seconds(stack).items()}
    timings = [result for result in results if isinstance(result, StreamTiming)]
    print(f"\n| {listeners} clients | median | worst |\n|---|---|---|")
    for name, what in (("first audio", "first"), ("longest gap", "longest_gap"), ("buffer needed", "behind")):
        values = [getattr(one, what) for one in timings]
        print(f"| {name}, ms | {1000 * statistics.median(values):.0f} | {1000 * max(values):.0f} |")
    fluent = sum(one.behind <= PLAYER_BUFFER_SECONDS for one in timings)
    print(f"\n{fluent} of {listeners} without a pause; {sum(one.missing for one in timings)} chunks missing")
    print(*{repr(result) for result in results if not isinstance(result, StreamTiming)}, sep="\n")
    audio_seconds = sum(one.seconds for one in timings)
    print("\n| process | CPU, ms per second of audio |\n|---|---|")
    for name, seconds in used.items():
        print(f"| {name} | {1000 * seconds / audio_seconds:.2f} |")


def cpu_seconds(stack: Stack) -> dict[str, float]:
    """Return the CPU time of each process, and of this one, which runs the clients."""
    times = {process_name(process): process.cpu_times() for process in stack.children()}
    return {name: spent.user + spent.system for name, spent in times.items()} | {"clients": time.process_time()}


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="previews a measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, in turns")
    parser.add_argument("--listeners", type=int, default=100, help="clients at once")
    parser.add_argument(
        "--sentences", type=int, default=7, help="length of the text, about 3.5 seconds of audio each"
    )
    arguments = parser.parse_args()
    real_time = {"MOCK_SPEED": "1", "WORKER_BATCH_SIZE": str(arguments.listeners), "PREVIEWS_IN_FLIGHT": "0"}
    with tempfile.TemporaryDirectory() as name:
        with running(Path(name) / "first", QUIET) as stack:
            asyncio.run(first_audio(stack, count=arguments.count, rounds=arguments.rounds))
        with running(Path(name) / "many", QUIET | real_time) as stack:
            asyncio.run(many(stack, listeners=arguments.listeners, sentences=arguments.sentences))
            print_memory(stack)


if __name__ == "__main__":
    main()
