"""Validation of names and texts, and the ids that are derived from names."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain import voice_names
from pipeline.domain.sessions import check_transcription
from pipeline.errors import InvalidInput
from pipeline.settings import Settings

SETTINGS = Settings()


@pytest.mark.parametrize(
    ("name", "voice_id"),
    [
        ("Nova", "nova"),
        ("小明", "xiao-ming"),
        ("Zoë", "zoe"),
        ("Zoe\u0308", "zoe"),
        ("Москва", "moskva"),
        ("7", "7"),
        ("a & b", "a-b"),
        ("  Ana  María ", "ana-maria"),
        ("🎧 DJ", "dj"),
        ("../../etc/passwd", "etc-passwd"),
        ("\u0646\u0648", "nw"),
        ("\u0645\u06cc\u200c\u0631", None),
        ("a" * 64, "a" * 64),
        ("नोवा", "novaa"),
    ],
)
def test_voice_id_of_name(name: str, voice_id: str | None) -> None:
    made = voice_names.voice_id_of(voice_names.check_name(name))
    assert voice_names.is_voice_id(made)
    if voice_id is not None:
        assert made == voice_id


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "1 to 80"),
        ("   ", "1 to 80"),
        ("\u3000", "1 to 80"),
        ("a" * 81, "It has 81"),
        ("小" * 81, "It has 81"),
        ("🎧🎤", "letter or digit"),
        ("---", "letter or digit"),
        ("\u0301", "letter or digit"),
        ("a\nb", "control"),
        ("a\x00b", "control"),
        ("a\x7f", "control"),
        ("a\x85b", "control"),
        ("a\u2028b", "control"),
        ("\u202egnp.exe", "control"),
        ("nova\u200f", "control"),
        ("no\u200bva", "control"),
        ("no\ufeffva", "control"),
        ("no\ue000va", "control"),
        ("a\ud800", "control"),
    ],
)
def test_check_name_invalid(name: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        voice_names.check_name(name)
    assert caught.value.field == "name"


@pytest.mark.parametrize("name", ["a" * 80, "小" * 80, "e\u0301" * 80, " " + "a" * 80 + " ", "👩\u200d🚀 1"])
def test_check_name_longest(name: str) -> None:
    assert 1 <= len(voice_names.check_name(name)) <= 80


def test_check_name_composes() -> None:
    assert voice_names.check_name("Zoe\u0308") == "Zoë"


def test_voice_id_of_long_names() -> None:
    one, other = (voice_names.voice_id_of("a" * 79 + end) for end in "xy")
    assert one != other
    assert len(one) == len(other) == 64
    assert voice_names.voice_id_of("a" * 65) != voice_names.voice_id_of("a" * 66)


def test_voice_id_without_transliteration() -> None:
    one, other = voice_names.voice_id_of("ⵣ"), voice_names.voice_id_of("ⵥ")
    assert one != other
    assert voice_names.is_voice_id(one)


@settings(derandomize=True, database=None, max_examples=400)
@given(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=90))
def test_every_valid_name_has_id(name: str) -> None:
    try:
        checked = voice_names.check_name(name)
    except InvalidInput:
        return
    assert voice_names.is_voice_id(voice_names.voice_id_of(checked))
    assert voice_names.check_name(checked) == checked
    assert unicodedata.is_normalized("NFC", checked)


@pytest.mark.parametrize(
    "text", ["", "Nova", "nova ", "-nova", "nova-", "no--va", "a/b", "..", "nova\n", "a" * 65, "小明", "nov\u0430"]
)
def test_is_voice_id_malformed(text: str) -> None:
    assert not voice_names.is_voice_id(text)


def test_check_description() -> None:
    assert voice_names.check_description("d" * 500) == "d" * 500
    with pytest.raises(InvalidInput, match="at most 500") as caught:
        voice_names.check_description("d" * 501)
    assert caught.value.field == "description"


def test_check_transcription() -> None:
    assert check_transcription(" \n", SETTINGS) == ""
    assert check_transcription(" said ", SETTINGS) == "said"
    with pytest.raises(InvalidInput, match="at most 4096") as caught:
        check_transcription("a" * 4097, SETTINGS)
    assert caught.value.field == "transcription"
