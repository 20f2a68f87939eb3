"""Text processing: cleaning, estimating durations, and splitting into parts that the model synthesizes well."""

import itertools
import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import sentencex

from pipeline.contract.languages import LANGUAGE_CODES

LONGEST_PART_SECONDS = 20.0  # well below the minutes after which the model degenerates, but with natural prosody

PARAGRAPH_PAUSE, SENTENCE_PAUSE, CLAUSE_PAUSE = 0.7, 0.35, 0.15  # seconds

_CODES = {name: code for code, name in LANGUAGE_CODES.items() if len(code) == 2}  # by name, as sentencex has them

_SCRIPTS_OF_ONE = (("HIRAGANA", "ja"), ("KATAKANA", "ja"), ("HANGUL", "ko"), ("CJK", "zh"), ("CYRILLIC", "ru"))
_LATIN = ("en", "de", "fr", "it", "pt", "es")

# Seconds that a character takes at an unhurried pace; whitespace takes none.
_HAN, _KANA, _HANGUL, _DIGIT, _LETTER = 0.26, 0.14, 0.2, 0.35, 0.075
_SCRIPTS = (("HIRAGANA", _KANA), ("KATAKANA", _KANA), ("CJK", _HAN), ("HANGUL", _HANGUL))

_UNSPEAKABLE = frozenset({"Cc", "Cs", "Co", "Cn"})  # control, half a surrogate pair, private, unassigned
_SENTENCE_END = re.compile(r"[.!?…。！？｡][\"'”’»」』）)\]]*\s*$")
# Where a sentence that is too long may be cut, best first.  The pieces keep their spaces, so that their
# concatenation is the original text.
_CUTS = (
    re.compile(r"(?<=[;:])(?=\s)|(?<=[；：])"),
    re.compile(r"(?<=[,–—])(?=\s)|(?<=[，、])"),
    re.compile(r"(?<=\s)(?=\S)"),
)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of text that is synthesized separately, and the pause after it in seconds."""

    text: str
    pause: float


class Cleaner:
    """Removes everything that the model would interpret as a control token."""

    def __init__(self, control_tokens: Iterable[str]) -> None:
        longest_first = sorted(control_tokens, key=len, reverse=True)
        self._control = re.compile("|".join([*map(re.escape, longest_first), r"<\|[^<>|]{0,64}\|>"]))

    def __call__(self, text: str) -> str:
        """Clean a text: blank lines stay, as the bounds of paragraphs. Other whitespace becomes one space.

        A control token is replaced by a space, so that the text around it can't form another.
        """
        known = "".join(_speakable(character) for character in unicodedata.normalize("NFC", text))
        paragraphs = re.split(r"\n\s*\n", self._control.sub(" ", known))
        return "\n\n".join(filter(None, (" ".join(paragraph.split()) for paragraph in paragraphs)))


def _speakable(character: str) -> str:
    if character == "\n":
        return character
    return " " if unicodedata.category(character) in _UNSPEAKABLE else character


def has_words(text: str) -> bool:
    """Return whether there is anything to pronounce."""
    return any(character.isalnum() for character in text)


def speech_seconds(text: str) -> float:
    """Estimate how long it takes to say a text, in seconds.

    Accurate to a factor of about two: enough to detect runaway synthesis or a transcript of something else.
    """
    return sum(_seconds_of(character) for character in text)


def _seconds_of(character: str) -> float:
    if character.isspace():
        return 0.0
    if character.isdigit():
        return _DIGIT
    name = unicodedata.name(character, "")
    return next((seconds for script, seconds in _SCRIPTS if name.startswith(script)), _LETTER)


def parts_of(text: str, language: str) -> list[Part]:
    """Split a cleaned text into parts at sentence ends. A short text is one part."""
    if speech_seconds(text) <= LONGEST_PART_SECONDS:
        return [Part(text, 0.0)]
    parts = [part for paragraph in text.split("\n\n") for part in _parts_of_paragraph(paragraph, language)]
    return [*parts[:-1], Part(parts[-1].text, 0.0)]


def _parts_of_paragraph(paragraph: str, language: str) -> list[Part]:
    codes = (_CODES[language],) if language in _CODES else _codes_of_script(paragraph)
    pieces = [piece for sentence in _sentences(paragraph, codes) for piece in _fit(sentence, _CUTS)]
    texts = [packed.strip() for packed in _pack(pieces)]
    return [
        *(Part(text, SENTENCE_PAUSE if _SENTENCE_END.search(text) else CLAUSE_PAUSE) for text in texts[:-1]),
        Part(texts[-1], PARAGRAPH_PAUSE),
    ]


def _codes_of_script(text: str) -> tuple[str, ...]:
    """Return the codes of the languages with rules for the script of a text, if no language was given."""
    names = {unicodedata.name(character, "").split(" ")[0] for character in text}
    for script, code in _SCRIPTS_OF_ONE:
        if script in names:
            return (code,)
    return _LATIN


def _sentences(text: str, codes: tuple[str, ...]) -> list[str]:
    """Split at the sentence ends of all languages: too few splits are better than "Dr." on its own."""
    agreed = set.intersection(*(set(_ends(text, code)) for code in codes))
    ends = sorted(agreed | {len(text)})
    return [text[start:end] for start, end in itertools.pairwise([0, *ends]) if end > start]


def _ends(text: str, code: str) -> Iterable[int]:
    return itertools.accumulate(map(len, sentencex.segment(code, text)))


def _fit(text: str, cuts: tuple[re.Pattern[str], ...]) -> list[str]:
    """Split a text that is too long for a part, at the best places."""
    seconds = speech_seconds(text)
    if seconds <= LONGEST_PART_SECONDS:
        return [text]
    if not cuts:
        size = max(1, int(len(text) * LONGEST_PART_SECONDS / seconds))
        return [text[start : start + size] for start in range(0, len(text), size)]
    return [piece for longer in cuts[0].split(text) for piece in _fit(longer, cuts[1:])]


def _pack(pieces: list[str]) -> list[str]:
    """Combine pieces into parts of about equal length, so that no short one remains at the end."""
    total = sum(map(speech_seconds, pieces))
    target = total / max(1, math.ceil(total / LONGEST_PART_SECONDS))
    packed, filled = [""], 0.0
    for piece in pieces:
        seconds = speech_seconds(piece)
        if filled >= target or filled + seconds > LONGEST_PART_SECONDS:
            packed.append("")
            filled = 0.0
        packed[-1] += piece
        filled += seconds
    return [text for text in packed if text.strip()]
