"""The schedules: clients that behave in different ways, faults, and the check of the promises."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from unittest.mock import patch

import detangle
import numpy as np

from pipeline.access import api_keys
from pipeline.access.webhook_receivers import make_secret
from pipeline.audio import reference_audio
from pipeline.audio.reference_audio import Recording
from pipeline.audio.wav import EncodedRecording
from pipeline.domain import sessions
from pipeline.errors import PipelineError
from tests.simulation.checks import check, check_at_end
from tests.simulation.clients import OWNER, Client, ConnectionLost, Promises, pause
from tests.simulation.faults import Faults, Process
from tests.simulation.http_clients import Answer, HttpClient
from tests.simulation.voice_checks import check_audit, check_deleted, check_expired
from tests.simulation.world import SETTINGS, SWEEP_SECONDS, World

CLIENTS_AT_MOST = 4
SETTLED_WITHIN_SECONDS = 25 * 60  # a change is completed ten minutes after a crash, and retries take some time
SETTLED_SOON_SECONDS = 3 * 60  # what is open then waits for a sweep
CONNECTIONS = 4
NO_JOB_SECONDS = 5.0
RETENTION_SHARE = 0.1  # of the schedules, which wait until everything expires
URL = "https://example.org/hook"
RECORDING_RATE = 8000

_SAMPLES = np.sin(np.arange(RECORDING_RATE, dtype=np.float32) / 10, dtype=np.float32)
RECORDING = EncodedRecording(reference_audio.encode_wav(Recording(_SAMPLES, RECORDING_RATE)), 1.0)

Behaviour = Callable[[Client, str], Awaitable[None]]


async def speak(client: Client, session_id: str) -> None:
    await client.preview(session_id=session_id)


async def speak_with_webhook(client: Client, session_id: str) -> None:
    await client.preview(session_id=session_id, webhook_url=URL)


async def speak_and_cancel(client: Client, session_id: str) -> None:
    if job_id := await client.preview(session_id=session_id):
        await pause(0.0, 1.0, 3.0)
        await client.cancel(job_id)


async def subscribe(client: Client, session_id: str) -> None:
    """Subscribe to the job of another client over several connections, one after the other."""
    while not client.promises.jobs:
        await asyncio.sleep(0.5)
        if asyncio.get_running_loop().time() > NO_JOB_SECONDS:
            return
    job_id = detangle.choice(sorted(client.promises.jobs))
    for number in range(CONNECTIONS):
        await pause(0.0, 0.3, 0.6, 0.9)
        await Client(client.world, client.promises, f"{client.name}, connection {number}").subscribe(job_id)


async def speak_and_leave(client: Client, session_id: str) -> None:
    job_id = await client.preview(session_id=session_id)
    client.world.inboxes.pop(client.name)
    if job_id:
        client.promises.jobs[job_id] = ""


async def save(client: Client, session_id: str) -> None:
    await pause(0.0, 0.0, 0.3, 0.6)
    await client.save(session_id, "Nova")


async def save_and_delete(client: Client, session_id: str) -> None:
    if voice_id := await client.save(session_id, "Nova"):
        await pause(0.0, 2.0)
        await _delete(client, voice_id)


async def save_and_speak(client: Client, session_id: str) -> None:
    if voice_id := await client.save(session_id, "Luna"):
        await client.preview(voice_id=voice_id)


async def speak_and_delete(client: Client, session_id: str) -> None:
    """Delete a voice while, or after, previews of it and of its upload are made."""
    if voice_id := await client.save(session_id, "Luna"):
        await asyncio.gather(client.preview(session_id=session_id), client.preview(voice_id=voice_id))
        await pause(0.0, 1.0, 3.0, 6.0)
        await _delete(client, voice_id)


async def read_audit_log(client: Client, session_id: str) -> None:
    for _ in range(CONNECTIONS):
        await pause(0.3, 1.0, 2.0)
        await HttpClient(client).read_audit_log()


async def speak_over_http(client: Client, session_id: str) -> None:
    """Send a request with a key twice at about the same time, and repeat both until they are answered."""
    query = detangle.choice(({}, {"stream": "1"}))
    await asyncio.gather(*(_speak_once(client, session_id, after, query) for after in (0.0, 0.3)))


async def _speak_once(client: Client, session_id: str, after_seconds: float, query: dict[str, str]) -> None:
    await asyncio.sleep(after_seconds)
    await HttpClient(client).preview_once(session_id, client.name, **query)


async def stream_over_http(client: Client, session_id: str) -> None:
    await HttpClient(client).stream(session_id, Answer(leaves_after=detangle.choice((None, None, None, 0, 1, 2))))


async def stream_and_cancel(client: Client, session_id: str) -> None:
    async with _streaming(client, session_id) as answer:
        if answer.job_id:
            await client.cancel(answer.job_id)


async def stream_and_subscribe(client: Client, session_id: str) -> None:
    """Subscribe to the job of a stream, and then leave the stream."""
    async with _streaming(client, session_id) as answer:
        if answer.job_id:
            await client.subscribe(answer.job_id)
            if (answer.job_id, client.name) in client.promises.subscribed:
                client.promises.wanted.add(answer.job_id)
            answer.has_left.set()


@asynccontextmanager
async def _streaming(client: Client, session_id: str) -> AsyncIterator[Answer]:
    """Stream a preview. The block begins with the response."""
    answer = Answer()
    streaming = asyncio.ensure_future(HttpClient(client).stream(session_id, answer))
    while not answer.status and not streaming.done():  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    try:
        yield answer
    finally:
        await streaming


async def save_over_http(client: Client, session_id: str) -> None:
    await HttpClient(client).save_once(session_id, f"Ann {client.name}", client.name)


async def _delete(client: Client, voice_id: str) -> None:
    if await HttpClient(client).delete(voice_id):
        check_deleted(client.world, voice_id)


@dataclass(frozen=True, slots=True)
class Theme:
    """What the clients of a schedule choose from, and where faults occur, so that rare combinations occur often."""

    behaviours: tuple[Behaviour, ...]
    places: tuple[str, ...]
    outage_share: float = 0.1
    """Of the schedules, in which the receiver of webhooks is not reachable at first."""
    loss_share: float = 0.1
    """Of the schedules, in which the queues lose their messages."""
    unreachable_share: float = 0.3
    """Of the messages to clients that fail."""


THEMES = (
    Theme(
        (
            speak,
            speak_with_webhook,
            speak_and_cancel,
            subscribe,
            speak_and_leave,
            save,
            save_and_delete,
            save_and_speak,
        ),
        ("", "api", "worker", "functions", "sweeper", "put"),
    ),
    Theme((speak, speak_and_leave, subscribe, subscribe), ("", "functions", "post")),
    Theme((speak_with_webhook,), ("", "webhooks", "functions"), outage_share=0.7, loss_share=0.5),
    Theme((save, save, save_and_delete), ("", "api", "voices", "delete_versions")),
    Theme((save, save_and_delete), ("voices replace",)),
    Theme((speak_and_delete, speak_and_delete, save_and_delete, speak), ("", "api", "worker", "sweeper", "put")),
    Theme((save, save_and_delete, speak, read_audit_log), ("", "audit", "audit put", "functions")),
    Theme((speak_over_http,), ("", "api", "put", "replace", "bucket read", "send", "send")),
    Theme((save_over_http,), ("", "api", "put", "bucket put_once", "bucket put_once", "replace")),
    Theme(
        (stream_over_http, stream_over_http, stream_and_cancel, stream_and_subscribe),
        ("", "api", "worker", "post", "post"),
        unreachable_share=0.05,
    ),
)


async def schedule() -> None:
    """Run a random set of clients, wait until everything has settled, and check the promises."""
    world = SET_UP.copy()
    # The ids of connections, which are the same in a replay.
    with patch.object(secrets, "token_urlsafe", lambda size: random.randbytes(size).hex()):
        try:
            await _run_clients(world, Promises())
        finally:
            world.faults.is_over = True


async def _run_clients(world: World, promises: Promises) -> None:
    theme = detangle.choice(THEMES)
    world.faults = Faults.chosen(theme.places, theme.unreachable_share)
    if detangle.flip(theme.outage_share):
        world.receiver_up_at = world.time() + timedelta(seconds=detangle.choice((20, 100, 400)))
    loses_messages = detangle.flip(theme.loss_share)
    promises.is_calm = not world.faults.left and not loses_messages
    world.start()
    await asyncio.sleep(0)
    count = detangle.randint(1, CLIENTS_AT_MOST)
    chosen = [detangle.choice(theme.behaviours) for _ in range(count)]
    detangle.note(" + ".join(behaviour.__name__ for behaviour in chosen))
    session_ids = detangle.choice((SESSION_IDS, SESSION_IDS[:1]))
    running = [
        _run(behaviour, Client(world, promises, f"client {number}"), detangle.choice(session_ids))
        for number, behaviour in enumerate(chosen)
    ]
    if loses_messages:
        running.append(_lose_messages(world))
    await asyncio.gather(*running)
    await _settle(world, promises)


async def _settle(world: World, promises: Promises) -> None:
    world.faults.left = 0
    loop = asyncio.get_running_loop()
    while (open_ := check(world, promises)) and loop.time() < SETTLED_WITHIN_SECONDS:
        await asyncio.sleep(20 if loop.time() < SETTLED_SOON_SECONDS else SWEEP_SECONDS)
        for supervisor in world.supervisors:
            assert not supervisor.done(), supervisor.exception()
    assert not open_, "; ".join(open_)
    check_at_end(world, promises)
    await check_audit(world, world.resources(world.process("auditor")), promises)
    if detangle.flip(RETENTION_SHARE):
        await asyncio.sleep(SETTINGS.preview_retention.total_seconds() + 2 * SWEEP_SECONDS)
        check_expired(world)


async def _run(behaviour: Behaviour, client: Client, session_id: str) -> None:
    try:
        await behaviour(client, session_id)
    except (ConnectionLost, PipelineError) as error:
        detangle.note(f"{client.name}: {error!r}")


async def _lose_messages(world: World) -> None:
    await pause(1.0, 3.0, 10.0, 100.0, 350.0)
    await world.lose_messages()


async def _set_up() -> tuple[World, list[str]]:
    """Store two uploads, and the secret of the owner's webhooks. Return the world and the ids of the uploads."""
    world = World()
    resources = world.resources(Process(Faults(), "set-up"))
    await make_secret(resources, OWNER, bytes)
    await api_keys.make(
        resources, owner=OWNER, name="key", scopes=("preview", "voices:write"), expires_at=None, random=bytes
    )
    ids = [world.new_session(OWNER) for _ in range(2)]
    for session_id in ids:
        await sessions.store(resources, OWNER, session_id, RECORDING, "Hello.")
    return world, ids


SET_UP, SESSION_IDS = detangle.run(_set_up)
