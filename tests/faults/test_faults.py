"""Real processes under faults of the network, storage, disk, clock and processes: no promise is broken."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random, SystemRandom

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from embedded.storage.data_folder import read_credentials
from supervision.ports import free_port

from pipeline.audio.wav import length_of_wav
from tests.e2e.stack import Stack
from tests.faults.disturbances import Disturbances, ShiftedClock
from tests.faults.faulty_proxy import FaultyProxy
from tests.faults.ledger import Ledger
from tests.faults.traffic import Traffic
from tests.support.small_disk import SmallDisk, small_disk

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("faults")]

SECONDS = float(os.environ.get("FAULT_SECONDS", "75"))
SEED = int(os.environ.get("FAULT_SEED", SystemRandom().randrange(10**6)))
CLIENTS = 6
# The longest retry of a notification, and of a webhook after a crash.
SETTLE_SECONDS = 240.0
LONGEST_STOP_SECONDS = min(60.0, SECONDS / 6)  # of a worker, longer than the visibility timeout of 5 seconds

SETTINGS = {"WEBSOCKET_FRAMES_PER_MINUTE": "0", "CONNECTIONS_PER_ADDRESS": "0"}


@dataclass(frozen=True, slots=True)
class Machine:
    """A store and services that reach it through a proxy."""

    store: Stack
    services: Stack
    proxy: FaultyProxy
    disk: SmallDisk | None
    clock: ShiftedClock


@asynccontextmanager
async def running(folder: Path, random: Random) -> AsyncIterator[Machine]:
    """Run everything until the context ends."""
    clock, port = ShiftedClock(folder / "clock"), free_port("127.0.0.1")
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(folder / "disk", "192m"))
        store = Stack(folder / "disk" / "data", {**clock.environment, "STORE_PORT": str(port)}, "--store-only")
        store.log = folder / "store.log"
        stack.callback(store.stop_all)
        await asyncio.to_thread(store.start)
        credentials = read_credentials(store.data)
        assert credentials is not None
        proxy = FaultyProxy(f"http://127.0.0.1:{port}", random)
        async with proxy.serving() as url:
            environment = {
                **SETTINGS,
                **clock.environment,
                **store.names,
                **credentials.environment(),
                "AWS_ENDPOINT_URL": url,
            }
            services = Stack(folder / "services", environment)
            stack.callback(services.stop_all)
            await asyncio.to_thread(services.start)
            await asyncio.to_thread(services.run_keys, "webhook-secret")
            yield Machine(store, services, proxy, disk, clock)


@asynccontextmanager
async def webhook_receiver(ledger: Ledger, random: Random) -> AsyncIterator[str]:
    """Receive webhooks until the context ends. A tenth of the deliveries fails."""

    async def receive(request: web.Request) -> web.Response:
        if random.random() < 0.1:
            return web.Response(status=500)
        if job_id := ledger.observe_message(await request.json()):
            ledger.webhooks.add(job_id)
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/hook", receive)
    async with TestServer(app) as server:
        yield str(server.make_url("/hook"))


async def test_promises_are_kept_under_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random, ledger = Random(SEED), Ledger()
    async with (
        running(tmp_path, random) as machine,
        webhook_receiver(ledger, random) as webhook_url,
        aiohttp.ClientSession() as session,
    ):
        traffic = Traffic(session, machine.services.url, webhook_url, ledger, random)
        disturbances = Disturbances(
            (machine.store, machine.services),
            machine.proxy,
            machine.disk,
            machine.clock,
            random,
            LONGEST_STOP_SECONDS,
            lambda: len(ledger.jobs),
        )
        clients = [asyncio.create_task(traffic.run_client()) for _ in range(CLIENTS)]
        async with disturbances.active():
            await asyncio.wait(clients, timeout=SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        traffic.is_stopping = True
        await asyncio.wait(clients, timeout=SETTLE_SECONDS)
        unfinished = ledger.unfinished()
        for client in clients:
            client.cancel()
        failures = [
            one for one in await asyncio.gather(*clients, return_exceptions=True) if isinstance(one, Exception)
        ]
        await check_jobs(traffic)
        await check_voices(traffic, machine.store)
    with capsys.disabled():
        print(report(disturbances, ledger))
    assert not failures
    assert not ledger.violations
    assert not unfinished
    assert not ledger.duplicated()
    assert len(ledger.promised) >= CLIENTS


async def check_jobs(traffic: Traffic) -> None:
    """Read the outcome and the audio of each job."""
    for job in traffic.ledger.promised:
        answer = await traffic.get(f"/jobs/{job.job_id}")
        if answer is None or answer.status != 200 or not traffic.ledger.observe_view(answer.document):
            traffic.ledger.violations.append(f"job {job.job_id} has no outcome: {answer}")
        elif answer.document["status"] == "succeeded":
            audio = await traffic.get(f"/previews/{job.job_id}.wav")
            assert audio is not None
            job.audio.add(sha256(audio.body).hexdigest())
            rate, seconds = length_of_wav(audio.body[:200])
            if audio.status != 200 or len(audio.body) < 2 * rate * seconds:
                traffic.ledger.violations.append(f"audio of {job.job_id} is incomplete")


async def check_voices(traffic: Traffic, store: Stack) -> None:
    """Read the recording of each saved voice, and search for files of deleted ones."""
    ledger = traffic.ledger
    for voice_id, voice in ledger.saved.items():
        sample = await traffic.get(f"/voices/{voice_id}/sample")
        if sample is None or sha256(sample.body).hexdigest() != voice.recording:
            ledger.violations.append(f"saved voice {voice_id} has not its recording: {sample and sample.status}")
    listed = await traffic.get("/voices?limit=1000")
    assert listed is not None
    found = {voice["voice_id"] for voice in listed.document["voices"]}
    ledger.violations += [f"voice {voice_id} is deleted, and listed" for voice_id in found & ledger.deleted]
    ledger.violations += [f"voice {voice_id} is saved, and not listed" for voice_id in ledger.saved.keys() - found]
    assert bool(files_of(store, ledger.saved)) == bool(ledger.saved)
    ledger.violations += [f"{path} of a deleted voice remains" for path in files_of(store, ledger.deleted)]


def files_of(store: Stack, voice_ids: Iterable[str]) -> list[str]:
    """Return the stored files of voices."""
    folders = [path for path in store.data.glob("s3/**/audio/voices/*") if path.name in set(voice_ids)]
    return [str(path) for folder in folders for path in folder.rglob("*") if path.is_file()]


def report(disturbances: Disturbances, ledger: Ledger) -> str:
    """Return the counts of a run as a table."""
    faults = [
        *sorted(disturbances.counts.items()),
        *((f"requests {name}", n) for name, n in sorted(disturbances.proxy.counts.items())),
    ]
    rows = [f"| {name} | {count} |" for name, count in (*ledger.table(), *faults)]
    notes = [] if disturbances.disk else ["The disk was not filled: only root can mount a tmpfs."]
    errors = [f"  {count:5} × {name}" for name, count in ledger.refusals.most_common()]
    lines = [f"{SECONDS:g} seconds, seed {SEED}", "| | |", "|---|---|", *rows, *notes, "Errors:", *errors]
    problems = [*ledger.violations, *ledger.unfinished(), *ledger.duplicated()]
    return "\n".join(["", *lines, *problems])
