from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract.languages import LANGUAGES
from pipeline.contract.options import check_options
from pipeline.contract.records import Options, Request
from pipeline.errors import InvalidInput


def test_no_options() -> None:
    assert check_options({}) == Options()
    assert Options().model_dump(exclude_none=True) == {"language": "Auto"}


def test_all_options_from_json_and_form() -> None:
    given_types: dict[str, Any] = {
        "language": "german",
        "seed": 7,
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.9,
        "repetition_penalty": 1.1,
        "max_seconds": 30,
        "non_streaming_mode": True,
    }
    expected = Options(**{**given_types, "language": "German"})
    assert check_options(given_types) == expected
    assert check_options({name: str(value) for name, value in given_types.items()}) == expected


@pytest.mark.parametrize("language", [" english ", "ENGLISH", "English"])
def test_language_case_insensitive(language: str) -> None:
    assert check_options({"language": language}).language == "English"


def test_all_languages_accepted() -> None:
    assert [check_options({"language": name.lower()}).language for name in LANGUAGES] == list(LANGUAGES)


def test_unknown_option_named() -> None:
    with pytest.raises(
        InvalidInput, match=r"There is no option 'tempreature'. The options are language, seed"
    ) as caught:
        check_options({"tempreature": 0.5})
    assert caught.value.field == "tempreature"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("language", "Klingon"),
        ("language", 5),
        ("seed", -1),
        ("seed", 2**53),
        ("seed", 1.5),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", float("nan")),
        ("temperature", "warm"),
        ("top_k", -1),
        ("top_p", 0),
        ("top_p", 1.01),
        ("repetition_penalty", 0.9),
        ("repetition_penalty", float("inf")),
        ("max_seconds", 0),
        ("max_seconds", 3601),
    ],
)
def test_invalid_value_named(name: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} should ") as caught:
        check_options({name: value})
    assert caught.value.field == name
    assert "\n" not in caught.value.message


@given(st.dictionaries(st.text(max_size=20), st.none() | st.floats() | st.text() | st.lists(st.integers())))
def test_unknown_options_rejected(given_options: dict[str, Any]) -> None:
    if set(given_options) <= set(Options.model_fields):
        return
    with pytest.raises(InvalidInput) as caught:
        check_options(given_options)
    assert caught.value.field in {name.encode("ascii", "backslashreplace").decode() for name in given_options}


def test_stored_options_of_other_version() -> None:
    stored = b"""{"job_id": "x", "kind": "preview", "source": {"voice_id": "v"}, "text": "Hi", "reference_id": "r",
        "created_at": "2026-01-01T00:00:00Z", "options": {"language": "Auto", "to_come": 1}}"""
    assert Request.model_validate_json(stored).options == Options()
