"""Messages for several connections of one API process, in one request.

The receiver passes them on without waiting for the clients. Its response names the connections that do not exist,
and those that are busy with an earlier message, because the client reads slowly. Their messages are not delivered.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BATCH = "batch"
"""The id in the path of the request. Ids of connections are longer."""

MAX_BYTES, MAX_MESSAGES = 1024 * 1024, 128
"""Limits of all messages of a batch."""

GONE_HEADER, BUSY_HEADER = "x-connections-gone", "x-connections-busy"
"""Headers of the response: ids of connections, separated by commas."""

AddressedMessage = tuple[str, bytes]
"""The id of a connection, and a message for it."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """The connections whose messages were not delivered."""

    gone: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()


def to_batch(messages: Iterable[AddressedMessage]) -> bytes:
    """Serialize messages: each one after a line with its connection and its length in bytes."""
    return b"".join(b"%b %d\n%b" % (to.encode(), len(body), body) for to, body in messages)


def parse_batch(batch: bytes) -> Sequence[AddressedMessage]:
    """Parse the output of `to_batch`.

    Raises
    ------
    ValueError
        It has another format.
    """
    messages: list[AddressedMessage] = []
    end = 0
    while end < len(batch):
        start = batch.index(b"\n", end) + 1
        to, _, length = batch[end : start - 1].partition(b" ")
        if not length.isdigit() or (end := start + int(length)) > len(batch):
            raise ValueError("The length of a message is wrong.")
        messages.append((to.decode(), batch[start:end]))
    return messages
