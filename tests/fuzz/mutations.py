"""Damage of valid input, for hypothesis."""

import json
import os
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))

# The same few examples in each run, or many new ones.
fuzzed = settings(
    max_examples=EXAMPLES or 10,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

_HEADER_BYTES = 160
_NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    2**63,
    2**64 - 1,
)


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """Return one of the seeds after up to six edits, most of them near its start."""
    data: bytes = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, min(_HEADER_BYTES, len(data))) | st.integers(0, len(data)))
        match draw(st.sampled_from(("number", "bits", "insert", "delete", "copy", "cut"))):
            case "number":
                data = _replaced(data, at, draw(_numbers(len(data) - at)))
            case "bits":
                data = _replaced(data, at, bytes([draw(st.integers(0, 255))]))
            case "insert":
                data = data[:at] + draw(st.binary(min_size=1, max_size=24)) + data[at:]
            case "delete":
                data = data[:at] + data[at + draw(st.integers(1, 64)) :]
            case "copy":
                other = draw(st.sampled_from(seeds))
                start = draw(st.integers(0, len(other)))
                data = data[:at] + other[start : start + draw(st.integers(1, 512))] + data[at:]
            case "cut":
                data = data[:at] if draw(st.booleans()) else data[at:]
    return data


@st.composite
def _numbers(draw: st.DrawFn, rest: int) -> bytes:
    """Return a number in the size and byte order of a field, often a limit or the size of the rest."""
    size: int = draw(st.sampled_from((1, 2, 4, 8)))
    number: int = draw(st.sampled_from((*_NUMBERS, max(0, rest), max(0, rest - 8))) | st.integers(0, 2**64 - 1))
    return (number % (1 << 8 * size)).to_bytes(size, draw(st.sampled_from(("little", "big"))))


def _replaced(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


TEXTS = st.text(max_size=20) | st.sampled_from(
    (
        "",
        " ",
        "\0",
        "\ud800",
        "\u202e",
        "\ufeff",
        "a" * 5000,
        "../..",
        "null",
        "1e999",
        "https://127.0.0.1",
        "٣",
        "İ",
    )
)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from((2**63, -(2**63), 10**400, 1e308, -0.0))
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def changed_document(draw: st.DrawFn, seed: Any) -> Any:
    """Return a JSON document in which up to three values or names were replaced, removed or added."""
    document = json.loads(json.dumps(seed))
    for _ in range(draw(st.integers(1, 3))):
        document = draw(_changed_value(document))
    return document


@st.composite
def _changed_value(draw: st.DrawFn, value: Any) -> Any:
    if not value or not isinstance(value, dict | list) or draw(st.integers(0, 9)) == 0:
        return draw(JSON_VALUES)
    changed: Any = dict(value) if isinstance(value, dict) else list(value)
    key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    match draw(st.sampled_from(("change", "change", "remove", "add"))):
        case "change":
            changed[key] = draw(_changed_value(value[key]))
        case "remove":
            del changed[key]
        case "add" if isinstance(changed, dict):
            changed[draw(TEXTS)] = draw(JSON_VALUES)
        case "add":
            changed.append(draw(JSON_VALUES))
    return changed


def encoded_json(document: Any) -> bytes:
    """Return JSON with lone surrogates as escapes, and NaN and infinity as JavaScript writes them."""
    return json.dumps(document).encode()
