"""The rate limit of a WebSocket connection's frames: excess frames are delayed, then the connection is closed."""

from dataclasses import dataclass, field

_EXTENDED_LENGTHS = {126: 2, 127: 8}


def frame_length(received: bytes | bytearray) -> int | None:
    """Return the size of the first frame (RFC 6455, section 5.2), or None if its header is incomplete."""
    if len(received) < 2:
        return None
    length, mask = received[1] & 0x7F, 4 if received[1] & 0x80 else 0
    extended = _EXTENDED_LENGTHS.get(length, 0)
    if len(received) < 2 + extended:
        return None
    if extended:
        length = int.from_bytes(received[2 : 2 + extended])
    return 2 + extended + mask + length


@dataclass(slots=True)
class FrameLimit:
    """A token bucket for one connection; times are seconds of any monotonic clock.

    Parameters
    ----------
    per_minute
        Frames per minute; the burst size is a fifth of it.  0: no limit.
    slowed_seconds
        How long a connection may be delayed continuously before it should be closed.
    """

    per_minute: int
    slowed_seconds: float = 20.0
    _tokens: float = field(init=False)
    _updated_at: float = field(init=False, default=0.0)
    _slowed_since: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._tokens = self._burst

    @property
    def _burst(self) -> float:
        return max(1.0, self.per_minute / 5)

    def seconds_to_wait(self, now: float) -> float:
        """Return 0 and count a frame, or return how long the frame has to wait."""
        if not self.per_minute:
            return 0.0
        per_second = self.per_minute / 60
        self._tokens = min(self._burst, self._tokens + (now - self._updated_at) * per_second)
        self._updated_at = now
        if self._tokens >= self._burst / 2:
            self._slowed_since = None
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        if self._slowed_since is None:
            self._slowed_since = now
        return (1 - self._tokens) / per_second

    def is_exceeded(self, now: float) -> bool:
        """Return whether the connection should be closed."""
        return self._slowed_since is not None and now - self._slowed_since >= self.slowed_seconds
