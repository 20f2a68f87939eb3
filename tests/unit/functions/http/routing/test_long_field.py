"""The field of a JSON body that may be long."""

import pytest

from functions.http.routing.long_field import OtherBytes, split_body, unescape

LONG = b"A" * 5000


def count(*parts: bytes) -> int:
    other = OtherBytes("ref_audio")
    for part in parts:
        other.add(part)
    return other.count


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"ref_audio":"%b"}' % LONG, 16),
        (b'{"input": "Hi", "ref_audio" :\n "%b", "seed": 1}' % LONG, 45),
        (b'{"ref_audio":"", "ref_audio":"%b"}' % LONG, 32 + len(LONG)),  # only the first one
        (b'{"ref_text":"%b"}' % LONG, 15 + len(LONG)),
        (b'{"ref_audio":["%b"]}' % LONG, 18 + len(LONG)),
        (b'{"input":"\\"ref_audio\\":\\"%b"}' % LONG, 28 + len(LONG)),
        (b'{"ref_audio":' + b" " * 20 + b'"%b"}' % LONG, 36 + len(LONG)),
    ],
    ids=["only", "spaces", "second", "other field", "list", "escaped", "too many spaces"],
)
def test_other_bytes(body: bytes, expected: int) -> None:
    assert count(body) == expected
    assert count(*(body[start : start + 7] for start in range(0, len(body), 7))) == expected
    assert count(*(bytes([byte]) for byte in body)) == expected


def test_split_body() -> None:
    split = split_body(b'{"input": "Hi", "ref_audio": "%b", "seed": 1}' % LONG, "ref_audio")
    assert split is not None
    assert split.value == LONG
    assert split.json == b'{"input": "Hi", "ref_audio": "%b", "seed": 1}' % split.digest.encode()
    other = split_body(b'{"ref_audio": "%bB"}' % LONG, "ref_audio")
    assert other is not None
    assert other.digest != split.digest


@pytest.mark.parametrize(
    "body", [b"{}", b'{"ref_audio":"short"}', b'{"ref_audio":"' + LONG, b'{"other":"%b"}' % LONG]
)
def test_split_body_without_long_value(body: bytes) -> None:
    assert split_body(body, "ref_audio") is None


def test_unescape() -> None:
    assert unescape(LONG + rb"QU\/J\u002BC\n\r\t=") == LONG.decode() + "QU/J+C="
    assert unescape(LONG + rb"\u0041\\") == LONG.decode() + r"\u0041\\"
    assert unescape(rb"\n" * 1000) == r"\n" * 1000
