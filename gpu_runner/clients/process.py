"""`python -m gpu_runner.clients.process FD`: serves a worker's calls until the worker closes the socket."""

import asyncio
import signal
import socket
import sys

from gpu_runner.clients.frames import Call, Cancel, Channel, Ready, Return
from pipeline.clients.resources import Resources, connect
from pipeline.logs import configure_logging
from pipeline.settings import Settings


async def serve(end: socket.socket) -> None:
    """Receive the settings, then serve calls until the other end is closed."""
    channel = await Channel.open(end)
    settings: Settings | None = await channel.receive()
    if settings is None:
        return
    configure_logging(settings, "gpu_runner")
    async with connect(settings) as resources:
        channel.send(Ready())
        await _serve_calls(resources, channel)


async def _serve_calls(resources: Resources, channel: Channel) -> None:
    calls: dict[int, asyncio.Task[None]] = {}

    async def answer(call: Call) -> None:
        try:
            channel.send(await _result(resources, call))
        finally:
            del calls[call.id]

    while (frame := await channel.receive()) is not None:
        match frame:
            case Call():
                calls[frame.id] = asyncio.create_task(answer(frame))
            case Cancel() if frame.id in calls:
                calls[frame.id].cancel()


async def _result(resources: Resources, call: Call) -> Return:
    method = getattr(getattr(resources, call.client), call.method)
    try:
        if call.method == "list":
            return Return(call.id, [item async for item in method(*call.args, **call.kwargs)])
        return Return(call.id, await method(*call.args, **call.kwargs))
    except Exception as error:
        return Return(call.id, error=error)


def main() -> None:
    """Serve until the worker closes the socket; signals are ignored, as the worker handles them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as end:
        asyncio.run(serve(end))


if __name__ == "__main__":
    main()
