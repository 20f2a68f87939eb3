"""Words of a text, and differences between two texts."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

# Chinese characters and Japanese kana are counted one by one, as in published character error rates.
LONGEST = 50  # words of a repetition that are counted
_UNIT = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|(?:(?![\u3040-\u30ff\u3400-\u9fff])[\w'])+")


def units(text: str) -> list[str]:
    """Return the lower-case words of a text without punctuation; single characters in Chinese and Japanese."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    return [unit for match in _UNIT.findall(plain) if (unit := match.strip("'_"))]


def errors(expected: Sequence[str], heard: Sequence[str]) -> int:
    """Return the least number of substitutions, deletions and insertions between two texts."""
    row = list(range(len(heard) + 1))
    for number, word in enumerate(expected, 1):
        diagonal, row[0] = row[0], number
        for column, other in enumerate(heard, 1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (word != other)),
            )
    return row[-1]


def repeated(expected: Sequence[str], heard: Sequence[str]) -> int:
    """Return the length of the longest sequence of words that was heard twice, or more often than expected."""

    def is_repeated(size: int) -> bool:
        wanted = sequences(expected, size)
        return any(count > max(1, wanted[words]) for words, count in sequences(heard, size).items())

    return max(filter(is_repeated, range(1, LONGEST)), default=0)


def echoed(transcription: Sequence[str], expected: Sequence[str], heard: Sequence[str]) -> int:
    """Return the length of the longest sequence of words of the reference that was heard but not expected."""

    def is_echoed(size: int) -> bool:
        new = sequences(heard, size).keys() - sequences(expected, size).keys()
        return not new.isdisjoint(sequences(transcription, size))

    return max(filter(is_echoed, range(1, LONGEST)), default=0)


def sequences(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    """Count the sequences of `size` words."""
    return Counter(tuple(words[start : start + size]) for start in range(len(words) - size + 1))
