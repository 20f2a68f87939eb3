"""Cost of the sweep, of listings and of the start with many stored objects: `python -m tests.benchmarks.scale`.

The files of the embedded storage are written before it starts.  Requests are those that reach the storage.
"""

import argparse
import asyncio
import hashlib
import json
import os
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from embedded import configuration
from embedded.storage.data_folder import AwsCredentials
from supervision.ports import free_port
from supervision.processes import ChildProcess
from supervisor import store_program

from functions.background import sweep
from pipeline.access.owners import new_id
from pipeline.clients.resources import Resources, connect
from pipeline.contract import layout
from pipeline.contract.records import ReplyTo, Request, Source, VoiceMetadata
from pipeline.domain import voices
from pipeline.domain.consents import recorded
from pipeline.ids import id_maker, utc_now
from pipeline.settings import Settings

OWNER = "alice"
FILES_OF_A_VOICE = 4
LONGEST_NAME = 200  # ministack stores objects with longer names in another folder

Stored = tuple[str, datetime, bytes]


def job(created_at: datetime, *parts: str) -> Iterator[Stored]:
    """Yield objects of a job of this time: `request`, `outcome`, `marks` and `preview`."""
    job_id = new_id(id_maker(lambda: created_at), OWNER)
    request = Request(
        job_id=job_id,
        kind="preview",
        source=Source(voice_id="voice-1", owner=OWNER),
        reference_id=secrets.token_hex(16),
        text="Hello.",
        created_at=created_at,
    )
    keys = {
        "request": [layout.request(job_id)],
        "outcome": [layout.outcome(job_id)],
        "marks": [
            layout.derived_job(request.reference_id or "", job_id),
            layout.fingerprint(OWNER, job_id) + f"000-{'A' * 240}",
        ],
        "preview": [layout.preview(job_id)],
    }
    for part in parts:
        for key in keys[part]:
            yield key, created_at, request.to_json() if part == "request" else b"{}"


def upload(created_at: datetime) -> Iterator[Stored]:
    """Yield the objects of an upload."""
    keys = layout.session(new_id(id_maker(lambda: created_at), OWNER))
    for key in (keys.audio, keys.transcription, keys.embedding):
        yield key, created_at, b"RIFF"


def connection(opened_at: datetime) -> Iterator[Stored]:
    """Yield the state of a connection."""
    client = ReplyTo(endpoint="", connection_id=secrets.token_urlsafe(16), connected_at=opened_at)
    yield layout.connection(client), opened_at, b"{}"


def voice(number: int, created_at: datetime) -> Iterator[Stored]:
    """Yield the objects of a saved voice."""
    voice_id, reference_id = f"voice-{number}", secrets.token_hex(16)
    keys = layout.voice_reference(OWNER, voice_id, reference_id)
    metadata = VoiceMetadata(
        voice_id=voice_id,
        name=f"Voice {number}",
        description="",
        created_at=created_at,
        source_file=keys.audio,
        embedding_file=keys.embedding,
        status="ready",
        changed_at=created_at,
        reference_id=reference_id,
    )
    yield layout.voice(OWNER, voice_id).metadata, created_at, metadata.to_json()
    for key in (keys.audio, keys.transcription, keys.embedding):
        yield key, created_at, b"RIFF"


def consent(created_at: datetime, owner: str) -> Iterator[Stored]:
    """Yield the objects of a recorded consent."""
    consent_id = new_id(id_maker(lambda: created_at), owner)
    record = {"name": "Ann", "language": "en", "text": "Yes.", "created_at": created_at.isoformat()}
    yield layout.listed_consent(owner, consent_id), created_at, b""
    yield layout.session(consent_id).recorded_consent, created_at, json.dumps(record).encode()


def live_objects(now: datetime, count: int) -> Iterator[Stored]:
    """Yield about this many objects that have not expired."""
    jobs = count // 5
    for number in range(jobs):
        age = timedelta(hours=23) * number / jobs
        is_recent = age < timedelta(minutes=15)
        yield from job(now - age, "request", "outcome", "marks", *(["preview"] if is_recent else []))
        if age < timedelta(hours=11):
            yield from upload(now - age) if number % 2 else connection(now - age / 6)
    for number in range(count // 100):
        yield from consent(now - timedelta(hours=10), f"owner-{number}")
        end = now + timedelta(minutes=1)
        yield layout.quota(f"owner-{number}", "requests", end), now, b'{"used": 1}'


def expired_objects(now: datetime, count: int) -> Iterator[Stored]:
    """Yield about this many objects that have expired."""
    for _ in range(count // 10):
        yield from job(now - timedelta(hours=25), "request", "outcome")
        yield from job(now - timedelta(minutes=90), "preview")
        yield from upload(now - timedelta(hours=13))
        yield from connection(now - timedelta(hours=3))
        end = now - timedelta(minutes=5)
        yield layout.quota(f"owner-{secrets.token_hex(4)}", "requests", end), end, b'{"used": 1}'
        yield layout.ticket(id_maker(lambda: now - timedelta(minutes=5))()), now, b"{}"


def write(bucket: Path, objects: Iterator[Stored]) -> int:
    """Write the files of objects as the embedded storage does; return their number."""
    count = 0
    for key, moment, body in objects:
        path = bucket / key
        if len(path.name) > LONGEST_NAME:
            path = bucket / ".ministack-keys" / f"sha256-{hashlib.sha256(key.encode()).hexdigest()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        sidecar = {
            "content_type": "application/json",
            "etag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"',
            "last_modified": moment.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "size": len(body),
            "content_encoding": None,
            "metadata": {},
            "preserved_headers": {},
            "storage_class": "STANDARD",
            "checksums": {},
            "version_id": None,
            "key": key,
        }
        path.with_name(path.name + ".meta.json").write_text(json.dumps(sidecar))
        count += 1
    return count


@asynccontextmanager
async def started(data: Path, settings: Settings, port: int, credentials: AwsCredentials) -> AsyncIterator[str]:
    """Start the embedded storage as the supervisor does; yield the time until its queues are complete."""
    child = ChildProcess(store_program(port, data, settings, credentials))
    began = time.monotonic()
    task = asyncio.create_task(child.keep_running())
    try:
        await child.ready.wait()
        seconds = time.monotonic() - began
        (store,) = psutil.Process().children()
        used = store.cpu_times()
        cpu, memory = used.user + used.system, store.memory_info().rss / 2**20
        yield f"{seconds:.1f} s, {cpu:.1f} s of CPU time and {memory:.0f} MiB of memory of the storage"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await child.stop(1)


class Requests:
    """Counts the requests of a process to the storage by operation."""

    def __init__(self, resources: Resources) -> None:
        self._counts = Counter[str]()
        client: Any = vars(resources.bucket)["_client"]
        client.meta.events.register("before-send.s3", self._count)

    def _count(self, event_name: str, **_: object) -> None:
        self._counts[event_name.rpartition(".")[2]] += 1

    async def of(self, name: str, run: Callable[[], Awaitable[object]]) -> None:
        """Run, and print a row with the requests."""
        self._counts.clear()
        began = time.perf_counter()
        result = await run()
        milliseconds = (time.perf_counter() - began) * 1000
        made = ", ".join(f"{count} {operation}" for operation, count in self._counts.most_common())
        done = result if isinstance(result, int) else ""
        print(f"| {name} | {done} | {self._counts.total()} | {milliseconds:.0f} ms | {made} |", flush=True)


async def measure(live: int, expired: int, saved: int, open_jobs: int) -> None:
    """Fill a storage, start it, and print the costs."""
    port, credentials = free_port(configuration.HOST), AwsCredentials("benchmark", secrets.token_hex())
    os.environ.update(configuration.client_environment(port, credentials))
    settings, now = Settings(), utc_now()
    with tempfile.TemporaryDirectory() as folder:
        bucket = configuration.s3_folder_of(Path(folder)) / configuration.ACCOUNT / settings.bucket
        count = write(bucket, live_objects(now, live)) + write(bucket, expired_objects(now, expired))
        for number in range(saved):
            count += write(bucket, voice(number, now))
        for number in range(open_jobs):
            count += write(bucket, job(now - timedelta(minutes=30) * number / open_jobs, "request", "marks"))
        async with started(Path(folder), settings, port, credentials) as cost, connect(settings) as resources:
            print(f"Start with {count} objects and {open_jobs} open jobs: {cost}\n")
            print("| operation | done | requests | time | of them |\n|---|---|---|---|---|")
            requests = Requests(resources)
            for name, task in sweep.TASKS.items():
                await requests.of(f"sweep: {name}", partial(task, resources))
            await requests.of("whole sweep again", lambda: sweep.handle(resources, {}))
            await requests.of("page of 100 voices", lambda: voices.page(resources, OWNER, limit=100))
            await requests.of("page of 20 consents", lambda: recorded.page(resources, "owner-1", limit=20))


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--live", type=int, default=60_000, help="stored objects that have not expired")
    parser.add_argument("--expired", type=int, default=1000)
    parser.add_argument("--voices", type=int, default=10_000, help=f"with {FILES_OF_A_VOICE} objects each")
    parser.add_argument("--open-jobs", type=int, default=1000)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.live, arguments.expired, arguments.voices, arguments.open_jobs))


if __name__ == "__main__":
    main()
