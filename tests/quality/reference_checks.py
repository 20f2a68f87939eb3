"""Check real readings with planted faults: `python -m tests.quality.reference_checks --results RESULTS`.

The references are readings from the package `moonshine-voice`, the stock voice of hibari and espeak-ng. The faults
are white noise, reverberation (decaying noise as impulse response), clipping, music and a second speaker.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf

from gpu_runner.analysis.audio import MODEL_RATE, at_model_rate
from gpu_runner.analysis.checks import check_reference
from gpu_runner.engines import Reference, Utterance
from gpu_runner.engines.hibari.engine import HibariEngine
from pipeline.audio.reference_audio import Recording, Samples
from pipeline.contract.records import Options, ReferenceCheck
from tests.quality.environment import recordings
from tests.quality.sentences import own_references
from tests.quality.synthesis import cut, espeak_reading
from tests.support.engines import synthesize
from tests.support.speech import voice

COMMAND = (
    "PYTHONPATH=.:localstack .venvs/service/bin/python -m tests.quality.reference_checks "
    "--results docs/benchmarks/reference-checks"
)
MEASURES = (
    "speech_seconds",
    "clipped_share",
    "background_score",
    "signal_score",
    "similarity_of_parts",
    "alignment_score",
    "aligned_share",
)
OTHER_TEXT = "We hold these truths to be self evident, that all men are created equal, that they are endowed"
HIBARI_TEXT = "She had never seen so many boats in the harbour. The water was calm, and the children went home."

Case = tuple[str, Samples, str]  # name, samples at MODEL_RATE, transcription


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality.reference_checks", description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="write RESULTS.md")
    arguments = parser.parse_args()
    checked = [(name, check_reference(Recording(samples, MODEL_RATE), text)) for name, samples, text in cases()]
    arguments.results.with_suffix(".md").write_text(table(checked))


def table(checked: list[tuple[str, ReferenceCheck]]) -> str:
    """Return the warnings and measures as Markdown."""
    head = ("recording", "warnings", *MEASURES)
    rows = [
        (
            name,
            ", ".join(warning.code for warning in check.warnings) or "–",
            *(f"{check.measures[measure]:.4g}" if measure in check.measures else "–" for measure in MEASURES),
        )
        for name, check in checked
    ]
    lines = [head, ("---",) * len(head), *rows]
    return f"Command: `{COMMAND}`\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def cases() -> Iterator[Case]:
    """Yield the readings, and those of single speakers with planted faults."""
    readings = own_readings()
    cities, beckett, america, endgame = readings.values()
    for name, (samples, text) in readings.items():
        yield name, samples, text
    for name, (samples, text) in list(readings.items())[:3]:
        yield from faults(name, samples, text)
        yield f"{name}, transcription of another text", samples, OTHER_TEXT
        yield f"{name}, half of the transcription", samples, text[: len(text) // 2]
        yield f"{name}, transcription twice", samples, f"{text} {text}"
    yield "endgame, first 12 s", endgame[0][: 12 * MODEL_RATE], ""
    yield "endgame, from 12 s", endgame[0][12 * MODEL_RATE :], ""
    yield "two_cities and beckett", np.append(cities[0][: 6 * MODEL_RATE], beckett[0]), ""
    yield "two_cities and 2 s of clone_test", np.append(cities[0], america[0][: 2 * MODEL_RATE]), ""
    yield "beckett and clone_test", np.append(beckett[0], america[0]), ""
    yield "melody", melody(10), ""
    yield "white noise", np.random.default_rng(1).normal(0, 0.1, 10 * MODEL_RATE).astype(np.float32), ""
    yield from synthetic()


def own_readings() -> dict[str, tuple[Samples, str]]:
    """Return the readings at the rate of the models, with their transcriptions."""
    readings = {}
    with tempfile.TemporaryDirectory() as folder:
        for reference in own_references(recordings()):
            samples, rate = sf.read(cut(reference, Path(folder)), dtype="float32")
            readings[reference.name] = at_model_rate(samples, rate), reference.transcription
    return readings


def faults(name: str, samples: Samples, text: str) -> Iterator[Case]:
    """Yield a reading with planted faults."""
    for ratio in (30, 20, 10, 5):
        yield f"{name}, noise at {ratio} dB", noisy(samples, ratio), text
    for seconds, level in ((0.3, 0.7), (0.6, 1.0), (1.2, 1.5)):
        yield f"{name}, reverberation of {seconds} s", reverberant(samples, seconds, level), text
    for share in (0.7, 0.4, 0.2):
        limit = share * np.abs(samples).max()
        yield f"{name}, clipped at {share:.0%} of the peak", np.clip(samples, -limit, limit), text
    music = melody(1 + len(samples) // MODEL_RATE)[: len(samples)]
    level = 0.7 * np.sqrt(np.mean(samples**2) / np.mean(music**2))
    yield f"{name}, music at -3 dB", (samples + level * music).astype(np.float32), text


def noisy(samples: Samples, ratio: float) -> Samples:
    """Add white noise at a signal-to-noise ratio in dB."""
    noise = np.random.default_rng(1).normal(0, np.sqrt(np.mean(samples**2)) * 10 ** (-ratio / 20), len(samples))
    return np.clip(samples + noise, -1, 1).astype(np.float32)


def reverberant(samples: Samples, seconds: float, level: float) -> Samples:
    """Add reverberation that decays by 60 dB in some seconds, at a level relative to the direct sound."""
    size = int(seconds * MODEL_RATE)
    response = np.random.default_rng(0).normal(0, 1, size) * 10 ** (-3 * np.arange(size) / size)
    response *= level / np.sqrt(np.sum(response**2))
    response[0] += 1
    mixed = np.convolve(samples, response)[: len(samples)]
    return np.asarray(mixed * np.abs(samples).max() / np.abs(mixed).max(), np.float32)


def melody(seconds: int) -> Samples:
    """Return decaying tones, two per second."""
    moments = np.arange(MODEL_RATE // 2) / MODEL_RATE
    pitches = np.random.default_rng(3).choice([220, 247, 262, 294, 330, 349, 392, 440], 2 * seconds)
    tones = [0.4 * np.sin(2 * np.pi * pitch * moments) * np.exp(-4 * moments) for pitch in pitches]
    return np.concatenate(tones).astype(np.float32)


def synthetic() -> Iterator[Case]:
    """Yield speech of hibari and of espeak-ng."""
    engine = HibariEngine()
    for pitch in (110, 190, 240):
        prompt = engine.make_prompt(Reference(voice(pitch), ""))
        spoken = synthesize(engine, Utterance("a", HIBARI_TEXT, prompt, Options()))["a"].samples
        yield f"hibari at {pitch} Hz", at_model_rate(spoken, engine.sample_rate), HIBARI_TEXT
    with tempfile.TemporaryDirectory() as folder:
        for name, path in espeak_reading(Path(folder)).items():
            samples, rate = sf.read(path, dtype="float32")
            yield name, at_model_rate(samples, rate), ""


if __name__ == "__main__":
    main()
