"""Webhook receivers cannot reach private networks, redirect the sender or delay it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from pipeline.addresses import is_public
from pipeline.clients import webhook_client
from pipeline.clients.webhook_client import PublicResolver, WebhookRefused

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254",
    "192.0.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "fe80::1", "fe80::1%1", "fec0::1",
    "fc00::1", "fd00:ec2::254", "ff02::1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_is_public_private_address(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_is_public_public_address(address: str) -> None:
    assert is_public(ip_address(address))


class FakeResolver(AbstractResolver):
    """Resolves names to the given sets of addresses, one after the other, and records the lookups."""

    def __init__(self, *sets: list[str]) -> None:
        self.sets = list(sets)
        self.lookups: list[str] = []

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        found = self.sets[min(len(self.lookups), len(self.sets) - 1)]
        self.lookups.append(host)
        return [
            ResolveResult(hostname=host, host=one, port=port, family=socket.AF_INET, proto=0, flags=0)
            for one in found
        ]

    async def close(self) -> None:
        pass


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def receiver(handler: Handler) -> AsyncIterator[str]:
    """Serve a receiver on localhost."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def send(url: str, resolver: AbstractResolver | None = None, *, allows_loopback: bool = False) -> None:
    async with webhook_client.webhook_client(allows_loopback=allows_loopback, resolver=resolver) as client:
        await client.send(url, {"webhook-id": "x"}, b"{}")


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254"])
async def test_name_of_private_address_is_refused(address: str) -> None:
    with pytest.raises(WebhookRefused, match="can't be reached"):
        await send("https://rebound.example/", FakeResolver([address]))


async def test_name_with_one_private_address_is_refused() -> None:
    resolver = PublicResolver(FakeResolver(["1.1.1.1", "10.0.0.1"]), allows_loopback=False)
    with pytest.raises(OSError, match="not public"):
        await resolver.resolve("mixed.example", 443)


async def test_name_is_resolved_once_per_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connected: list[str] = []

    async def connect(*_: object, addr_infos: list[tuple[object, ...]], **__: object) -> None:
        connected.extend(info[4][0] for info in addr_infos)  # type: ignore[index]
        raise OSError("not in a test")

    monkeypatch.setattr("aiohttp.connector.TCPConnector._wrap_create_connection", connect)
    rebinding = FakeResolver(["1.1.1.1"], ["127.0.0.1"])
    with pytest.raises(WebhookRefused):
        await send("https://rebinding.example/", rebinding)
    assert rebinding.lookups == ["rebinding.example"]
    assert connected == ["1.1.1.1"]


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://[::1]/", "http://1.1.1.1/", "https://10.0.0.1/"])
async def test_private_address_url_is_refused(url: str) -> None:
    with pytest.raises(WebhookRefused, match="not a public host") as refused:
        await send(url)
    assert refused.value.is_final


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0"])
async def test_loopback_spellings_are_refused(host: str) -> None:
    with pytest.raises(WebhookRefused):
        await send(f"https://{host}/")


async def test_name_of_loopback_is_refused() -> None:
    with pytest.raises(WebhookRefused, match="can't be reached"):
        await send("https://rebound.example/", FakeResolver(["127.0.0.1"]), allows_loopback=True)


async def test_redirect_is_not_followed() -> None:
    paths = []

    async def redirect(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=307, headers={"Location": "/inner"})

    async with receiver(redirect) as url:
        with pytest.raises(WebhookRefused, match="answered 307"):
            await send(url + "/outer", allows_loopback=True)
    assert paths == ["/outer"]


async def test_response_read_is_limited() -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"x" * 65536)
            sent += 65536

    async with receiver(endless) as url:
        await asyncio.wait_for(send(url, allows_loopback=True), 5)
    assert sent < 16 * 1024 * 1024  # the size of socket buffers


async def test_receiver_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_client, "TOTAL_SECONDS", 0.1)
    hanging = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await hanging.wait()
        return web.Response()

    async with receiver(hang) as url:
        with pytest.raises(WebhookRefused, match="did not answer within"):
            await send(url, allows_loopback=True)
        hanging.set()


@pytest.mark.parametrize(("status", "is_final"), [(500, False), (404, False), (410, True), (301, False)])
async def test_error_status_is_refused(status: int, is_final: bool) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with receiver(answer) as url:
        with pytest.raises(WebhookRefused, match=str(status)) as refused:
            await send(url, allows_loopback=True)
    assert refused.value.is_final is is_final


async def test_loopback_receiver_when_allowed() -> None:
    received = []

    async def accept(request: web.Request) -> web.Response:
        received.append((request.method, request.headers["webhook-id"], await request.read()))
        return web.Response(status=204)

    async with receiver(accept) as url:
        await send(url, allows_loopback=True)
    assert received == [("POST", "x", b"{}")]


@pytest.mark.parametrize(
    "url", ["https://xn--/", "https://xn--a.com/", f"https://{'a' * 300}.com/", "https://a..b/"]
)
async def test_malformed_host_is_refused(url: str) -> None:
    with pytest.raises(WebhookRefused):
        await send(url)
