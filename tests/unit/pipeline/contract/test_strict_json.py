"""Strict parsing of JSON, and its error messages."""

import pytest

from pipeline.contract.strict_json import DIGITS_MAX, parse_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, -2.5, null, "\u00e4"]}', {"a": [1, -2.5, None, "\u00e4"]}),
        ('\ufeff{"a": 1}'.encode(), {"a": 1}),
        ("9" * DIGITS_MAX, int("9" * DIGITS_MAX)),
    ],
    ids=["types", "byte order mark", "longest number"],
)
def test_parse_json_valid(text: str | bytes, value: object) -> None:
    assert parse_json(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "has 'c' twice. Every name should be there once."),
        ('{"\\ud800": 1, "\\ud800": 2}', r"has '\\ud800' twice. Every name should be there once."),
        ("9" * (DIGITS_MAX + 1), "has a number of 101 digits. JSON's should have at most 100."),
        ("[NaN]", "should be JSON, which has no NaN."),
        ("[-Infinity]", "should be JSON, which has no -Infinity."),
        (b'{"a": "\xff"}', "should be JSON in UTF-8. Byte 7 is not UTF-8."),
        ('{"a": "b', "is cut: it ends before its JSON does. Send it whole."),
        ('{"a": "b"', "is cut: it ends before its JSON does. Send it whole."),
        ('{"a":\n  b}', "should be JSON. Line 2, column 3 is not."),
        ("[" * 100_000, "nests arrays or objects too deeply."),
    ],
    ids=[
        "name twice",
        "surrogate",
        "digits",
        "nan",
        "infinity",
        "not utf-8",
        "in a string",
        "cut",
        "syntax",
        "depth",
    ],
)
def test_parse_json_invalid(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_json(text)
    assert str(refused.value) == message
