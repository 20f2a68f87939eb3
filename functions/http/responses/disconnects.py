"""Detection of clients that close the connection before their response."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

ResultT = TypeVar("ResultT")


async def run_until_disconnect(receive: Receive, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Return the result of a coroutine, which is cancelled if the client disconnects.

    Parameters
    ----------
    receive
        The ASGI callable of a request whose body has been read.
    work
        The coroutine.

    Raises
    ------
    ClientDisconnect
        The client has disconnected.
    """
    task = asyncio.create_task(work)
    disconnected = asyncio.create_task(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    except asyncio.CancelledError:  # the process stops: the coroutine may still return a response
        task.cancel()
        return await task
    finally:
        for pending in (task, disconnected):
            pending.cancel()
        await asyncio.gather(task, disconnected, return_exceptions=True)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
