"""The stock voice of `hibari-tts`: text to phonemes, phonemes to spectral frames, frames to samples.

The network and the signal processing are those of the package (https://github.com/MMWilliams/hibari). Its network
returns frames of 12.5 ms before the waveform is made, so that a voice can be adapted without a vocoder.
"""

import re
import unicodedata
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from hibari import Hibari, dsp
from numpy.typing import NDArray

from pipeline.audio.reference_audio import Samples
from pipeline.errors import InvalidInput

MODEL = f"hibari-tts-{version('hibari-tts')}"
SAMPLE_RATE: int = dsp.SR
BINS = dsp.N_FFT // 2 + 1  # 601, at every 20 Hz
BIN_HZ = SAMPLE_RATE / dsp.N_FFT
PHONEMES_MAX = 400  # in one run of the network; longer sentences are split

_LONG_NUMBER = re.compile(r"\d{13,}")  # the package reads numbers below a quadrillion
_PRONUNCIATION = re.compile(r"\[([^\]]+)\]\([^)]*\)")  # the package's syntax for phonemes inside the text

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Adaptation:
    """The difference between a speaker and the stock voice."""

    pitch: float
    """Factor of the fundamental frequency."""
    warp: float
    """Factor of the frequencies of the spectral envelope: above 1 for a shorter vocal tract."""
    correction: Floats
    """Natural logarithm of a gain for each frequency, of shape (BINS,)."""
    level: float = 1.0
    """Factor of the samples: a lower pitch has more harmonics, and is louder."""


class StockVoice:
    """The network, the dictionary and the signal processing."""

    def __init__(self) -> None:
        self._hibari = Hibari(threads=1)
        _ = self._hibari.g2p  # loads the dictionary

    def phonemes(self, text: str) -> list[list[int]]:
        """Return the phoneme ids of a text, one list per sentence or part of a long sentence.

        Raises
        ------
        InvalidInput
            The text has no English content.
        """
        letters = sum(map(str.isalpha, text))
        is_english = any(map(str.isalnum, text)) and letters >= 2 * other_letters(text)
        parts = self._parts(text) if is_english else []
        if not parts:
            raise InvalidInput(
                "The hibari engine speaks English only, and this text has no English content. "
                "TTS_BACKEND=qwen speaks ten languages.",
                field="text",
            )
        return parts

    def _parts(self, text: str) -> list[list[int]]:
        text = _PRONUNCIATION.sub(r"\1", _LONG_NUMBER.sub(lambda number: " ".join(number[0]), text))
        parts = [part for sentence in self._hibari.phonemize(text) for part in split_words(sentence)]
        return [ids for part in parts if len(ids := self._hibari.ids(part)) > 2]

    def synthesize(self, ids: list[int], adaptation: Adaptation | None, noise: np.random.Generator) -> Samples:
        """Synthesize one part of a text; returns mono samples of shape (n,) at `SAMPLE_RATE`."""
        inputs = {"ids": np.asarray([ids], np.int64), "speed": np.ones(1, np.float32)}
        outputs = [output[0] for output in self._hibari.sess.run(None, inputs)]
        harmonic, phase, aperiodic, residual, residual_phase, pitch = outputs  # [BINS, frames], and [frames]
        if adaptation is not None:
            pitch = pitch * np.float32(adaptation.pitch)
            gain = adaptation.correction[:, None]
            harmonic, aperiodic, residual = (
                warped(envelope, adaptation.warp) + gain for envelope in (harmonic, aperiodic, residual)
            )
            phase = warped(phase, adaptation.warp)
            # Phases in radians can't be interpolated.
            nearest = np.clip(np.rint(np.arange(BINS) / adaptation.warp), 0, BINS - 1).astype(int)
            residual_phase = residual_phase[nearest]
        samples: Samples = dsp.synth(harmonic, phase, aperiodic, residual, residual_phase, pitch, noise)
        if adaptation is not None:
            samples *= np.float32(adaptation.level)
        return np.clip(samples, -1.0, 1.0)


def other_letters(text: str) -> int:
    """Return the number of letters of other scripts than Latin, which are not spoken."""
    return sum(character.isalpha() and "LATIN" not in unicodedata.name(character, "") for character in text)


def warped(envelope: Floats, factor: float) -> Floats:
    """Move the features of spectral envelopes, [BINS, frames], to `factor` times their frequency."""
    position = np.clip(np.arange(BINS, dtype=np.float32) / np.float32(factor), 0, BINS - 1)
    below = position.astype(int)
    above = np.minimum(below + 1, BINS - 1)
    share = (position - below).astype(np.float32)[:, None]  # float64 would double the time
    moved: Floats = envelope[below] * (1 - share) + envelope[above] * share
    return moved


def split_words(phonemes: str) -> list[str]:
    """Split phonemes between words into parts of at most `PHONEMES_MAX`."""
    parts = [""]
    for word in phonemes.split(" "):
        pieces = [word[start : start + PHONEMES_MAX] for start in range(0, len(word), PHONEMES_MAX)]
        for piece in pieces:
            if len(parts[-1]) + 1 + len(piece) > PHONEMES_MAX:
                parts.append("")
            parts[-1] = f"{parts[-1]} {piece}".strip()
    return parts
