"""Sending of webhooks to receivers that clients have named: only to public addresses, and within limits."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from socket import AddressFamily
from typing import Protocol

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from pipeline.addresses import is_loopback, is_public

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 10.0
ANSWER_MAX_BYTES = 64 * 1024
_CHUNK_BYTES = 8 * 1024


class WebhookRefused(Exception):
    """The receiver did not accept the message. `is_final`: a retry can't succeed."""

    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_final = is_final


class WebhookClient(Protocol):
    """Interface for sending webhooks."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        """Send one message.

        Raises
        ------
        WebhookRefused
            The receiver can't be reached, is not allowed, or answered with an error.
        """


class PublicResolver(AbstractResolver):
    """Resolves a name only if all of its addresses are public.

    Parameters
    ----------
    resolver
        Looks the addresses up.
    allows_loopback
        Whether names of this machine's loopback interface may be resolved.
    """

    def __init__(self, resolver: AbstractResolver, *, allows_loopback: bool) -> None:
        self._resolver = resolver
        self._allows_loopback = allows_loopback

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises
        ------
        OSError
            It has none, or one that is not public.
        """
        found = await self._resolver.resolve(host, port, family)
        if self._allows_loopback and is_loopback(host):
            return found
        if not found or not all(is_public(ip_address(one["host"])) for one in found):
            raise OSError(None, f"{host} has an address that is not public")
        return found

    async def close(self) -> None:
        """See `AbstractResolver`."""
        await self._resolver.close()


class HttpWebhookClient:
    """Sends webhooks by HTTP. See `WebhookClient`."""

    def __init__(self, session: aiohttp.ClientSession, *, allows_loopback: bool) -> None:
        self._session = session
        self._allows_loopback = allows_loopback

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        """See `WebhookClient.send`."""
        try:
            target = URL(url)
            self._check(target)
        except ValueError as error:  # yarl decodes the host when it is first read
            raise WebhookRefused("the receiver's URL is not valid", is_final=True) from error
        try:
            async with self._session.post(target, data=body, headers=headers, allow_redirects=False) as answer:
                await _read_bounded(answer)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WebhookRefused(_reason(error)) from error
        if not 200 <= answer.status < 300:
            raise WebhookRefused(f"the receiver answered {answer.status}", is_final=answer.status == 410)

    def _check(self, target: URL) -> None:
        """Check the scheme, and the host if it is an address, which aiohttp does not resolve."""
        host = target.host or ""
        if self._allows_loopback and is_loopback(host):
            return
        try:
            is_allowed = is_public(ip_address(host))
        except ValueError:
            is_allowed = True
        if target.scheme != "https" or not is_allowed:
            raise WebhookRefused("the receiver is not a public host reached by https", is_final=True)


@asynccontextmanager
async def webhook_client(
    *, allows_loopback: bool, resolver: AbstractResolver | None = None
) -> AsyncIterator[HttpWebhookClient]:
    """Open a client for the lifetime of the context."""
    connector = aiohttp.TCPConnector(
        resolver=PublicResolver(resolver or aiohttp.ThreadedResolver(), allows_loopback=allows_loopback),
        use_dns_cache=False,
        force_close=True,  # the next message to the same name is checked again
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=TOTAL_SECONDS, sock_connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"User-Agent": "voice-cloning-service"},
    ) as session:
        yield HttpWebhookClient(session, allows_loopback=allows_loopback)


async def _read_bounded(answer: aiohttp.ClientResponse) -> None:
    """Read the answer, which is not used, up to the limit. The connection is closed after it."""
    received = 0
    async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
        received += len(chunk)
        if received >= ANSWER_MAX_BYTES:
            answer.close()
            return


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"the receiver did not answer within {TOTAL_SECONDS:g} seconds"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "the receiver's certificate is not valid"
    return "the receiver can't be reached"
