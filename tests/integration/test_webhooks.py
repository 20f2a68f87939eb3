"""Webhooks from the queue to receivers on localhost, through the local event source mapping."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pump import EventSourceMapping

from functions.background import webhooks
from pipeline.access import webhook_receivers
from pipeline.clients.webhook_client import webhook_client
from pipeline.contract.messages.webhooks import WebhookDelivery
from tests.support.fake_service import FakeService
from tests.support.waiting import until

DOCS = Path(__file__).parents[2] / "docs" / "webhooks.md"


async def deliveries(fakes: FakeService, url: str, count: int, group: str) -> None:
    for _ in range(count):
        outcome = await fakes.succeed(await fakes.job())
        body = WebhookDelivery(job_id=outcome.job_id, url=url).to_json().decode()
        await fakes.webhooks.send(body, group=group)


@asynccontextmanager
async def mapping(fakes: FakeService) -> AsyncIterator[None]:
    """Run the event source mapping of the webhooks queue."""
    async with webhook_client(allows_loopback=True) as client:
        handle = partial(webhooks.handle, client=client)
        mapping = EventSourceMapping(fakes.resources, fakes.webhooks, handle, delays_retries=False)
        running = asyncio.create_task(mapping.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def receiver(received: list[bytes], seconds: float = 0) -> AsyncIterator[str]:
    async def accept(request: web.Request) -> web.Response:
        await asyncio.sleep(seconds)
        received.append(await request.read())
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/", accept)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/"  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()


async def test_slow_receiver_blocks_no_other() -> None:
    fakes, slow, quick = FakeService(), list[bytes](), list[bytes]()
    await webhook_receivers.make_secret(fakes.resources, None)
    async with receiver(slow, seconds=60) as slow_url, receiver(quick) as quick_url:
        await deliveries(fakes, slow_url, 50, "slow")
        await deliveries(fakes, quick_url, 5, "quick")
        async with mapping(fakes):
            await until(lambda: len(quick) == 5)
    assert slow == []


@contextmanager
def documented_receiver(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, list[int], list[tuple[Any, ...]]]]:
    """Run the receiver in docs/webhooks.md.  Yield its URL, its response statuses and its output."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    definitions = code.replace("whsec_…", secret).rpartition("HTTPServer((")[0]
    printed: list[tuple[Any, ...]] = []
    answered: list[int] = []
    names: dict[str, Any] = {"print": lambda *words: printed.append(words)}
    exec(definitions, names)
    monkeypatch.setattr(names["Receiver"], "log_request", lambda _, status: answered.append(int(status)))
    server = HTTPServer(("127.0.0.1", 0), names["Receiver"])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", answered, printed
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("is_right", [True, False])
async def test_docs_receiver_verifies_messages(monkeypatch: pytest.MonkeyPatch, is_right: bool) -> None:
    fakes = FakeService()
    fakes.time.now = fakes.time.now.now(fakes.time.now.tzinfo)  # the receiver checks timestamps by the system clock
    secret = await webhook_receivers.make_secret(fakes.resources, None)
    other = await webhook_receivers.make_secret(FakeService().resources, None)
    with documented_receiver(secret if is_right else other, monkeypatch) as (url, answered, printed):
        await deliveries(fakes, url, 1, "docs")
        async with mapping(fakes):
            await until(lambda: len(answered) == 1)
    assert answered == [204 if is_right else 401]
    assert [words[0] for words in printed] == (["tts_complete"] if is_right else [])
