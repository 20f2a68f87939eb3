"""Measure audio files, in the environment `quality`: `python -m tests.quality.measures REQUEST.json RESULT.json`.

The request is an object of `references` (name: path) and `items`, a list of objects with `wav`, `spoken` (a list of
accepted texts), `language`, `reference` (a name) and `transcription` (of the reference). The result contains the
measures of the items in the same order, and the versions of the packages.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile as sf
from numpy.typing import NDArray
from pocketsphinx import Decoder
from resemblyzer import VoiceEncoder, preprocess_wav
from speechmos import dnsmos

from tests.quality.words import echoed, errors, repeated, units

RATE = 16_000  # of the models
FRAME = RATE // 50
QUIET_DB = -40.0  # relative to the loudest frame
PAUSE_SECONDS = 0.2  # between two parts
PART_SECONDS = 0.5  # shorter parts are not compared
RUNAWAY_SECONDS, RUNAWAY_SECONDS_PER_WORD = 2.0, 1.0  # about three times the usual duration
PACKAGES = ("pocketsphinx", "resemblyzer", "speechmos", "torch", "onnxruntime", "numpy")

Floats = NDArray[np.float32]


def levels(samples: Floats) -> NDArray[np.float64]:
    """Return the level of each frame of 20 ms in dBFS."""
    frames = np.pad(samples, (0, -len(samples) % FRAME)).reshape(-1, FRAME)
    power: NDArray[np.float64] = np.mean(frames.astype(np.float64) ** 2, axis=1)
    return 10 * np.log10(power + 1e-12)


def flat_share(samples: Floats) -> float:
    """Return the share of samples in flat peaks: clipping, also if the audio was attenuated afterwards."""
    flat = (samples[1:-1] == samples[:-2]) & (samples[1:-1] == samples[2:])
    loud = np.abs(samples[1:-1]) >= 0.9 * np.abs(samples).max()
    return float(np.mean(flat & loud))


def part_jumps(samples: Floats, is_speech: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the largest changes of level (dB) and median pitch (semitones) between parts separated by pauses."""
    speech = np.flatnonzero(is_speech)
    breaks = np.flatnonzero(np.diff(speech) > PAUSE_SECONDS * RATE / FRAME) + 1
    parts = [samples[part[0] * FRAME : (part[-1] + 1) * FRAME] for part in np.split(speech, breaks)]
    parts = [part for part in parts if len(part) >= PART_SECONDS * RATE]
    level = [10 * np.log10(np.mean(part.astype(np.float64) ** 2)) for part in parts]
    pitch = [12 * np.log2(np.median(librosa.yin(part, fmin=60, fmax=500, sr=RATE))) for part in parts]
    return max(np.abs(np.diff(level)), default=0.0), max(np.abs(np.diff(pitch)), default=0.0)


def signal_measures(samples: Floats, words: int) -> dict[str, float]:
    """Measure audio at `RATE` without a model."""
    level = levels(samples)
    is_speech = level > level.max() + QUIET_DB
    speech = np.flatnonzero(is_speech)
    seconds = len(samples) / RATE
    spoken_seconds = (speech[-1] + 1 - speech[0]) * FRAME / RATE
    limit = RUNAWAY_SECONDS + RUNAWAY_SECONDS_PER_WORD * words
    level_jump, pitch_jump = part_jumps(samples, is_speech)
    return {
        "seconds": seconds,
        "seconds_capped": min(seconds, limit),
        "runaway": float(seconds > limit),
        "words_per_minute": 60 * words / spoken_seconds,
        "leading_silence": speech[0] * FRAME / RATE,
        "trailing_silence": seconds - (speech[-1] + 1) * FRAME / RATE,
        "loudness": 10 * np.log10(np.mean(10 ** (level[is_speech] / 10))),
        "level_jump": level_jump,
        "pitch_jump": pitch_jump,
    }


class Models:
    """The recognizer and the speaker encoder, with the embeddings of the references."""

    def __init__(self, references: dict[str, str]) -> None:
        self._encoder = VoiceEncoder("cpu", verbose=False)
        self._speakers = {name: self._embed(*load(path)) for name, path in references.items()}

    def _embed(self, samples: Floats, rate: int) -> Floats:
        embedding: Floats = self._encoder.embed_utterance(preprocess_wav(samples, rate))
        return embedding

    def similarities(self, samples: Floats, reference: str) -> dict[str, float]:
        """Return the cosine similarity to the reference, and by how much it exceeds that to any other speaker."""
        embedding = self._embed(samples, RATE)
        all_ = {name: float(embedding @ speaker) for name, speaker in self._speakers.items()}
        own = all_.pop(reference)
        return {"similarity": own, "similarity_margin": own - max(all_.values(), default=0.0)}

    def words(self, samples: Floats) -> list[str]:
        """Recognize English words. A new decoder for each file, because it adapts to what it hears."""
        decoder = Decoder(samprate=RATE, loglevel="FATAL")
        decoder.start_utt()
        decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        return units(decoder.hyp().hypstr) if decoder.hyp() else []


def load(path: str) -> tuple[Floats, int]:
    """Return mono samples and their rate."""
    samples, rate = sf.read(path, dtype="float32", always_2d=True)
    return samples.mean(axis=1), rate


def measure(item: dict[str, Any], models: Models) -> dict[str, Any]:
    """Measure one file. Without an English text, word errors are None."""
    original, rate = load(item["wav"])
    samples = np.clip(librosa.resample(original, orig_sr=rate, target_sr=RATE), -1, 1)
    accepted = [units(text) for text in item["spoken"]]
    result: dict[str, Any] = {
        **signal_measures(samples, len(accepted[0])),
        "clipped": flat_share(original),
        **models.similarities(samples, item["reference"]),
        "dnsmos": float(dnsmos.run(samples, sr=RATE)["ovrl_mos"]),
        "words": len(accepted[0]),
        "word_errors": None,
    }
    if item["language"] == "English":
        heard = models.words(samples)
        expected = min(accepted, key=lambda words: errors(words, heard))
        wrong = errors(expected, heard)
        result |= {
            "heard": " ".join(heard),
            "words": len(expected),
            "word_errors": wrong,
            "word_errors_capped": min(wrong, len(expected)),
            "repeated_words": repeated(expected, heard),
            "echoed_words": echoed(units(item["transcription"]), expected, heard),
        }
    return {name: float(value) if isinstance(value, np.floating) else value for name, value in result.items()}


def main() -> None:
    """Measure the files of a request."""
    request, result = map(Path, sys.argv[1:])
    asked = json.loads(request.read_text())
    models = Models(asked["references"])
    measured = [measure(item, models) for item in asked["items"]]
    versions = {name: version(name) for name in PACKAGES}
    result.write_text(json.dumps({"items": measured, "versions": versions}))


if __name__ == "__main__":
    main()
