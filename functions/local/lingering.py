"""A transport whose `close` does not lose the response to a client that is still sending its request."""

import asyncio
from collections.abc import Callable
from typing import Any


class LingeringTransport:
    """The server's side of a connection, with a lingering close and two independent reasons to stop reading.

    Closing a socket with unread data resets the connection, and the client may lose the last response.  A lingering
    close ends the server's side, and discards what is received until the client closes its side.

    Parameters
    ----------
    transport
        The transport, which has all other methods.
    expects_data
        Returns whether the client may be still sending.
    seconds, max_bytes
        How long, and how many bytes, to discard before the connection is aborted.
    """

    def __init__(
        self, transport: asyncio.Transport, expects_data: Callable[[], bool], seconds: float, max_bytes: int
    ) -> None:
        self.transport = transport
        self._expects_data = expects_data
        self._seconds = seconds
        self._bytes_left = max_bytes
        self._timer: asyncio.TimerHandle | None = None
        self._is_paused = False
        self._is_held = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def close(self) -> None:
        """Send the buffered bytes and close; linger if the client may be sending.  A second call closes at once."""
        if self._timer is None and self._expects_data():
            self.linger()
        else:
            self.transport.close()

    def linger(self) -> None:
        """Send the buffered bytes and the end of the stream, then discard until the client closes its side."""
        if self.is_closing() or not self.transport.can_write_eof():
            self.transport.close()
            return
        try:
            self.transport.write_eof()
        except OSError:  # the client has closed the connection
            self.transport.abort()
            return
        self._is_paused = self._is_held = False
        self.transport.resume_reading()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.transport.abort)

    def is_closing(self) -> bool:
        """Return whether `close` was called, or the connection was lost."""
        return self._timer is not None or self.transport.is_closing()

    def discard(self, data: bytes) -> None:
        """Count data that was received after `close`."""
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            self.transport.abort()

    def cancel(self) -> None:
        """Cancel the timeout, as the connection is closed."""
        if self._timer is not None:
            self._timer.cancel()

    def pause_reading(self) -> None:
        """Stop reading until `resume_reading`."""
        self._is_paused = True
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again, unless reading is held."""
        self._is_paused = False
        if not self._is_held:
            self.transport.resume_reading()

    def hold_reading(self) -> None:
        """Stop reading until `release_reading`, whatever the application requests meanwhile."""
        self._is_held = True
        self.transport.pause_reading()

    def release_reading(self) -> None:
        """Read again, unless reading is paused."""
        self._is_held = False
        if not self._is_paused:
            self.transport.resume_reading()
