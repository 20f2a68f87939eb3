"""Closing of connections whose client may still be sending."""

import asyncio
import socket
import struct

from functions.local.lingering import LingeringTransport


async def test_close_after_reset() -> None:
    connected = asyncio.get_running_loop().create_future()

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            connected.set_result(transport)

    server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        transport = await connected
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    LingeringTransport(transport, lambda: True, seconds=60, max_bytes=100).close()
    assert transport.is_closing()
    server.close()
