"""Comparison of a recording with its transcription."""

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gpu_runner.analysis.words import new_decoder, process
from pipeline.audio.reference_audio import Samples

# The share of an English text's words in the dictionary. It contains many German and Spanish words too.
KNOWN_MIN = 0.9
FRAME_SECONDS = 0.01
# Fewer hypotheses than the defaults: about a quarter of the time, and more errors. Batch normalization makes the
# result independent of earlier recordings.
_FAST = {
    "cmn": "batch",
    "topn": 2,
    "maxwpf": 3,
    "maxhmmpf": 1000,
    "lpbeam": 1e-30,
    "lponlybeam": 7e-20,
    "pl_window": 10,
    "pl_beam": 1e-5,
    "pl_pbeam": 1e-5,
    "fwdflat": False,
    "bestpath": False,
}
_SILENCES = {"<s>", "</s>", "<sil>", "(NULL)", "[NOISE]"}
# Characters that are one syllable: Chinese, Japanese kana, Korean.
_SYLLABLE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Alignment:
    """How well an English text fits a recording.

    `score` is the mean logarithm of the acoustic score of a frame. `seconds` is the duration of the words.
    """

    score: float
    seconds: float


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'"))


def is_english(text: str) -> bool:
    """Return whether most words of a text are in the English dictionary.

    Raises
    ------
    PackageMissing
        pocketsphinx is not installed.
    """
    words = words_of(text)
    return bool(words) and len(_known(words)) >= KNOWN_MIN * len(words)


def align(samples: Samples, text: str) -> Alignment | None:
    """Align an English text with samples at `MODEL_RATE`. Unknown words are left out. None: it does not fit.

    Raises
    ------
    PackageMissing
        pocketsphinx is not installed.
    """
    decoder = _decoder()
    decoder.set_align_text(" ".join(_known(words_of(text))))
    process(decoder, samples)
    if decoder.hyp() is None:
        return None
    spoken = [segment for segment in decoder.seg() if segment.word not in _SILENCES]
    frames = sum(segment.end_frame - segment.start_frame + 1 for segment in spoken)
    score = sum(math.log(max(segment.ascore, 1e-300)) for segment in spoken)
    return Alignment(score / max(1, frames), frames * FRAME_SECONDS)


def suggest(samples: Samples) -> str:
    """Return a transcription of samples at `MODEL_RATE`, recognized as English, faster than by `words.recognize`.

    Raises
    ------
    PackageMissing
        pocketsphinx is not installed.
    """
    decoder = _decoder()
    decoder.activate_search()
    process(decoder, samples)
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis else ""


def syllable_rate(text: str, seconds: float) -> float:
    """Return the approximate syllables per second of a text: a syllable has three letters, or is one character."""
    letters = "".join(words_of(text))
    syllables = len(_SYLLABLE.findall(letters))
    return (syllables + (len(letters) - syllables) / 3) / seconds


def _known(words: list[str]) -> list[str]:
    decoder = _decoder()
    return [word for word in words if decoder.lookup_word(word)]


@lru_cache(1)
def _decoder() -> Any:
    return new_decoder(**_FAST)
