"""The parser of the local server: limits of work, and the forms of a request's target."""

import h11
import pytest

from functions.local.http_parser import EVENTS_PER_TURN, SMALL_CHUNKS_MAX, ChunksTooSmall, Connection

CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


def parse(data: bytes) -> h11.Request:
    connection = Connection()
    connection.receive_data(data)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    return event


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/voices?a=b", b"/voices?a=b"),
        (b"http://api.example/voices?a=http://x/", b"/voices?a=http://x/"),
        (b"HTTPS://api.example:8443", b"/"),
        (b"http://api.example?a=b", b"/?a=b"),
        (b"*", b"*"),
        (b"//api.example/voices", b"//api.example/voices"),
        (b"http:///voices", b"http:///voices"),
        (b"http://user@api.example/", b"http://user@api.example/"),
        (b"ftp://api.example/", b"ftp://api.example/"),
    ],
)
def test_target_is_in_origin_form(target: bytes, path: bytes) -> None:
    assert parse(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n").target == path


def test_absolute_target_replaces_host() -> None:
    request = parse(b"GET http://api.example:81/ HTTP/1.1\r\nHost: localhost\r\nX-Other: 1\r\n\r\n")
    assert list(request.headers) == [(b"host", b"api.example:81"), (b"x-other", b"1")]


def test_events_per_turn_are_limited() -> None:
    connection = Connection()
    connection.receive_data(CHUNKED + b"1\r\nx\r\n" * 100 + b"0\r\n\r\n")
    events: list[h11.Event] = []
    turns = 0
    while not events or not isinstance(events[-1], h11.EndOfMessage):
        connection.start_turn()
        turns += 1
        while (event := connection.next_event()) is not h11.NEED_DATA:
            events.append(event)
            if isinstance(event, h11.EndOfMessage):
                break
    assert len(events) == 102
    assert turns == -(-102 // EVENTS_PER_TURN)


def test_small_chunks_are_limited() -> None:
    connection = Connection()
    connection.receive_data(CHUNKED + b"1\r\nx\r\n" * (SMALL_CHUNKS_MAX + 1))
    for _ in range(1 + SMALL_CHUNKS_MAX):  # the head, and all chunks but the last
        connection.start_turn()
        connection.next_event()
    with pytest.raises(ChunksTooSmall, match="at least 32 bytes"):
        connection.next_event()
