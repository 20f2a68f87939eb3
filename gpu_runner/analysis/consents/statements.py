"""Comparison of a recording with the English statement that its speaker should have read.

pocketsphinx recognizes the recording with a language model of this statement: its words in their order, then any
digits. Other speech is recognized as some of its words in another order. The general model of pocketsphinx
recognizes only some of the words of synthetic voices and of speakers with an accent.
"""

import math
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path

from gpu_runner.analysis.audio import at_model_rate
from gpu_runner.analysis.words import new_decoder, process, pronunciations
from pipeline.audio.reference_audio import Samples

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_OH = "oh"  # another word for zero
_WORD = re.compile(r"[a-z']+")
_NEXT = 0.7  # probability that the statement continues
_START, _END = "<s>", "</s>"


@dataclass(frozen=True, slots=True)
class StatementMatch:
    """The share of the statement's words that were recognized in order, and the number of wrong digits."""

    words: float
    wrong_digits: int


def compare(samples: Samples, sample_rate: int, statement: str, code: str) -> StatementMatch:
    """Compare a recording with a statement that ends with the digits of a code.

    Words that are not in the dictionary of pocketsphinx, such as most names, are not compared.

    Raises
    ------
    PackageMissing
        pocketsphinx is not installed.
    """
    known, recognized = recognize_statement(samples, sample_rate, statement)
    return match(known, code, recognized)


def recognize_statement(samples: Samples, sample_rate: int, statement: str) -> tuple[list[str], list[str]]:
    """Return the words of a statement that can be recognized, and those that were, with the digits.

    Raises
    ------
    PackageMissing
        pocketsphinx is not installed.
    """
    spoken = _WORD.findall(statement.lower())
    with tempfile.TemporaryDirectory() as folder:
        model, dictionary = Path(folder, "statement.lm"), Path(folder, "statement.dict")
        model.write_text(language_model(spoken))
        # With the dictionary of all English words, a decoder with its own model takes eight seconds to load.
        dictionary.write_text(pronunciations({*spoken, *DIGITS, _OH}))
        decoder = new_decoder(lm=str(model), dict=str(dictionary))
    known = [word for word in spoken if decoder.lookup_word(word)]
    process(decoder, at_model_rate(samples, sample_rate))
    hypothesis = decoder.hyp()
    return known, hypothesis.hypstr.split() if hypothesis else []


def match(words: Sequence[str], code: str, recognized: Sequence[str]) -> StatementMatch:
    """Compare recognized words with those of a statement and its code."""
    blocks = SequenceMatcher(None, words, recognized, autojunk=False).get_matching_blocks()
    share = sum(block.size for block in blocks) / max(1, len(words))
    digits = [_digit(word) for word in recognized if word in DIGITS or word == _OH]
    return StatementMatch(round(share, 3), _distance([int(digit) for digit in code], digits))


def _digit(word: str) -> int:
    return 0 if word == _OH else DIGITS.index(word)


def _distance(code: Sequence[int], digits: Sequence[int]) -> int:
    """Return the edit distance of a code to the part of the digits that is nearest."""
    row = [0] * (len(digits) + 1)
    for number, wanted in enumerate(code, 1):
        above, row = row, [number]
        for column, digit in enumerate(digits):
            row.append(min(above[column + 1] + 1, row[column] + 1, above[column] + (digit != wanted)))
    return min(row)


def language_model(words: Sequence[str]) -> str:
    """Return the bigram model of a statement that ends with digits, in the ARPA format."""
    follows: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for word, following in pairwise([_START, *words]):
        follows[word][following] += 1
    digits = (*DIGITS, _OH)
    for word in (words[-1], *digits):
        follows[word].update(digits)
    for digit in digits:
        follows[digit][_END] += 1
    vocabulary = sorted({*words, *digits})
    rare = math.log10(1 / (len(vocabulary) + 1))
    backoff = math.log10(1 - _NEXT)
    single = [f"-99 {_START} {backoff:.4f}", f"{rare:.4f} {_END}"]
    single += [f"{rare:.4f} {word} {backoff:.4f}" for word in vocabulary]
    double = [
        f"{math.log10(_NEXT * count / following.total()):.4f} {word} {next_}"
        for word, following in sorted(follows.items())
        for next_, count in sorted(following.items())
    ]
    sizes = [f"ngram 1={len(single)}", f"ngram 2={len(double)}"]
    lines = ["\\data\\", *sizes, "", "\\1-grams:", *single, "", "\\2-grams:", *double, "", "\\end\\", ""]
    return "\n".join(lines)
