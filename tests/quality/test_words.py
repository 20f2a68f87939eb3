"""Words, and differences between texts."""

import pytest

from tests.quality.words import echoed, errors, repeated, units


def test_units_of_english() -> None:
    assert units("\u201cDon\u2019t\u201d, she said: well-known 'words'!") == [
        "don't", "she", "said", "well", "known", "words",
    ]  # fmt: skip


def test_units_of_chinese() -> None:
    assert units("你好，world。") == ["你", "好", "world"]


@pytest.mark.parametrize(
    ("heard", "count"),
    [("a b c d", 0), ("a x c d", 1), ("a b d", 1), ("a b b c d", 1), ("", 4), ("x y", 4)],
)
def test_word_errors(heard: str, count: int) -> None:
    assert errors(list("abcd"), units(heard)) == count


@pytest.mark.parametrize(
    ("heard", "length"), [("one two three", 0), ("one two three one two three", 3), ("one two two three", 1)]
)
def test_repeated_words(heard: str, length: int) -> None:
    assert repeated(units("one two three"), units(heard)) == length


def test_expected_repetition_is_no_fault() -> None:
    assert repeated(units("again and again"), units("again and again")) == 0


def test_echoed_words() -> None:
    reference, text = units("it was the best of times"), units("the weather is fine")
    assert echoed(reference, text, units("best of times the weather is fine")) == 3
    assert echoed(reference, text, text) == 0
