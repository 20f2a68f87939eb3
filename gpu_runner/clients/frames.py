"""Messages between a worker and its client processes: pickles over a socket pair."""

import asyncio
import pickle
import socket
import struct
from dataclasses import dataclass
from typing import Any, Literal

Client = Literal["bucket", "voices", "synthesis"]

_LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a client's method."""

    id: int
    client: Client
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cancel:
    """A call was abandoned by its caller."""

    id: int


@dataclass(frozen=True, slots=True)
class Return:
    """The return value or exception of a call."""

    id: int
    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """The process serves calls."""


class Channel:
    """One end of a socket pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> "Channel":
        """Create a channel from a socket."""
        return cls(*await asyncio.open_connection(sock=end))

    def send(self, frame: object) -> None:
        """Send a frame; it is buffered where the other end is slow."""
        body = pickle.dumps(frame, pickle.HIGHEST_PROTOCOL)
        self._writer.writelines([_LENGTH.pack(len(body)), body])

    async def receive(self) -> Any:
        """Return the next frame; None when the other end is closed."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            return pickle.loads(await self._reader.readexactly(length))  # noqa: S301 - from our parent or child
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def close(self) -> None:
        """Close this end."""
        self._writer.close()
