"""The field of a JSON body that may be long."""

from collections.abc import AsyncIterator

import pytest

from functions.http.routing.long_field import FieldSplitter, LongValue, SplitBody, split_body

LONG = b"A" * 100_000


@pytest.mark.parametrize(
    "body",
    [
        b'{"ref_audio":">%b<"}' % LONG,
        b'{"input": "Hi", "ref_audio" :\n ">%b<", "seed": 1}' % LONG,
        b'{"ref_audio":"><", "ref_audio":"%b"}' % LONG,  # only the first one
        b'{"ref_audio":">%b<' % LONG,
        b'{"ref_text":"%b"}' % LONG,
        b'{"ref_audio":["%b"]}' % LONG,
        b'{"input":"\\"ref_audio\\":\\"%b"}' % LONG,
        b'{"ref_audio":' + b" " * 20 + b'"%b"}' % LONG,
    ],
    ids=["only", "spaces", "second", "truncated", "other field", "list", "escaped", "too many spaces"],
)
@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_field_splitter(body: bytes, size: int) -> None:
    """The value is between > and <, for every size of the chunks."""
    expected = body.partition(b">")[2].partition(b"<")[0]
    body = body.replace(b">", b"").replace(b"<", b"")
    splitter = FieldSplitter("ref_audio")
    parts = [splitter.feed(body[start : start + size]) for start in range(0, len(body), size)]
    before, value, after = (b"".join(part) for part in zip(*parts, strict=True))
    assert value == expected
    assert before + value + after == body


async def split(*chunks: bytes) -> SplitBody:
    async def receive() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return await split_body(receive(), "ref_audio")


async def test_split_body() -> None:
    found = await split(b'{"input": "Hi", "ref_audio": "%b' % LONG, b'B", "seed": 1}')
    assert found.value is not None
    assert found.value.raw() == LONG + b"B"
    assert found.json == b'{"input": "Hi", "ref_audio": "%b", "seed": 1}' % found.value.digest.encode()
    other = await split(b'{"ref_audio": "%b"}' % LONG)
    assert other.value is not None
    assert other.value.digest != found.value.digest
    for value in (found.value, other.value):
        value.close()


@pytest.mark.parametrize(
    "body", [b"{}", b'{"ref_audio":"short"}', b'{"ref_audio":"short', b'{"other":"%b"}' % LONG]
)
async def test_split_body_without_long_value(body: bytes) -> None:
    assert await split(body[:10], body[10:]) == SplitBody(body, None)


@pytest.mark.parametrize("length", [0, 2**20 - 3, 2**21 - 1])
def test_long_value_escapes(length: int) -> None:
    value = LongValue()
    value.add(b"A" * length + rb"QU\/J\u002BC\n\r\t=" + b"A" * 1000)
    assert b"".join(value.steps()) == b"A" * length + b"QU/J+C=" + b"A" * 1000
    value.close()


@pytest.mark.parametrize("text", [rb"\u0041\\" * 100, rb"\n" * 1000])
def test_long_value_keeps_other_escapes(text: bytes) -> None:
    value = LongValue()
    value.add(text)
    assert b"\\" in b"".join(value.steps())
    value.close()
