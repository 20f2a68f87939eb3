"""Storage and queue calls of a preview that wait for each other: `python -m tests.benchmarks.sequential_calls`.

A proxy adds 20 ms to each storage call and 10 ms to each queue call, half of it on the way to the store and half on
the way back.  What a preview takes longer with it is the duration of its chain of dependent calls.
"""

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from aiohttp import web

from pipeline.contract import layout
from tests.benchmarks.preview_overhead import (
    SETTLED_SECONDS,
    TEXT_TO_SPEAK,
    Run,
    preview,
    preview_again,
    preview_session,
    timed,
)
from tests.benchmarks.store_proxy import QUIET, Counting, proxied, settings_of
from tests.e2e.client import recording
from tests.e2e.stack import Stack, running

STORAGE_SECONDS, QUEUE_SECONDS = 0.02, 0.01
BACKGROUND = ("GetQueue", "DeleteMessage")  # calls that no preview waits for
VOICE = "nova"


@dataclass(frozen=True, slots=True)
class Call:
    """A call to the store: its times, as seen by the process that made it, and the delay that it waited for."""

    name: str
    began: float
    ended: float
    delay: float


class Delaying(Counting):
    """A proxy that delays calls by `factor` times the delays above, and keeps them."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.factor = 0.0
        self.calls: list[Call] = []

    async def _pass_on(self, request: web.Request) -> web.Response:
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        delay = (QUEUE_SECONDS if operation else STORAGE_SECONDS) * self.factor
        began = time.perf_counter()
        await asyncio.sleep(delay / 2)
        answer = await super()._pass_on(request)
        await asyncio.sleep(delay / 2)
        ended = time.perf_counter()
        if operation == "ReceiveMessage":  # it was called before there was a message
            began, delay = ended - delay / 2, delay / 2
        self.calls.append(Call(operation or f"{request.method} {_kind(request.path)}", began, ended, delay))
        return answer


def _kind(path: str) -> str:
    """Return the last part of a key, without ids."""
    key = path.split("/", 2)[-1]
    folders = (layout.PREVIEWS, layout.FINGERPRINTS, layout.DERIVED)
    folder = next((folder for folder in folders if key.startswith(folder)), None)
    return folder or key.rpartition("/")[2] or "list"


def chain(calls: list[Call]) -> list[Call]:
    """Return the calls that waited for each other: each begins after the one before has ended."""
    longest: list[list[Call]] = []
    for call in sorted(calls, key=lambda call: call.ended):
        before = [found for found in longest if found[-1].ended <= call.began]
        longest.append([*max(before, key=_delay, default=[]), call])
    return max(longest, key=_delay)


def _delay(calls: list[Call]) -> float:
    return sum(call.delay for call in calls)


async def measure(delaying: Delaying, name: str, run: Run, count: int, factor: float) -> str:
    """Print how much longer previews take with the delays, and return the chain of one of them."""
    p50 = []
    for delaying.factor in (0, factor):
        await run()
        await asyncio.sleep(SETTLED_SECONDS)
        p50.append((await timed(run, in_flight=1, count=count)).p50)
    unit = STORAGE_SECONDS * factor * 1000
    longer = p50[1] - p50[0]
    print(f"| {name} | {p50[0]:.0f} | {p50[1]:.0f} | {longer:.0f} | **{longer / unit:.1f}** |")
    await asyncio.sleep(SETTLED_SECONDS)
    delaying.calls.clear()
    await run()
    calls = chain([call for call in delaying.calls if not call.name.startswith(BACKGROUND)])
    return f"{name}: {', '.join(call.name for call in calls)} ({_delay(calls) * 1000 / unit:.1f})"


async def compare(store: Stack, folder: Path, count: int, factor: float) -> None:
    """Measure previews of a new upload, of an upload that was used before, and of a saved voice."""
    delaying = Delaying(settings_of(store, "delayed").endpoint_for("s3") or "")
    async with (
        proxied(store, delaying, folder / "delayed") as stack,
        httpx.AsyncClient(base_url=stack.url, timeout=60) as client,
    ):
        session_id = (await preview_session(client)).headers["x-session-id"]
        saved = await client.post("/voices", json={"session_id": session_id, "name": VOICE, "description": ""})
        saved.raise_for_status()
        runs = {
            "new upload": preview(client, recording(120)),
            "known upload": preview_again(client, session_id),
            "saved voice": from_voice(client),
        }
        print(
            "| voice | p50 ms | with delays | longer by ms | in delays of a storage call |\n|---|---|---|---|---|"
        )
        chains = [await measure(delaying, name, run, count, factor) for name, run in runs.items()]
        print("", *chains, sep="\n")


def from_voice(client: httpx.AsyncClient) -> Run:
    """Return a run that gets a preview of the saved voice."""

    async def run() -> None:
        answer = await client.post("/preview-from-voice", data={"voice_id": VOICE, "response_text": TEXT_TO_SPEAK})
        answer.raise_for_status()

    return run


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="previews a measurement")
    parser.add_argument(
        "--factor", type=float, default=1, help="multiplies the delays, for a machine with other load"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running(Path(name) / "store", QUIET) as store:
        asyncio.run(compare(store, Path(name), arguments.count, arguments.factor))


if __name__ == "__main__":
    main()
