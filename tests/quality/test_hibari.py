"""The speech of the hibari engine stays within calibrated bounds, and planted faults do not.

Calibrated by `python -m tests.quality --only plain questions-2 lists-3 --seeds 1 2 3 4 5 --bounds
tests/quality/bounds.json`.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile as sf

from pipeline.audio.reference_audio import Samples
from tests.e2e.stack import running
from tests.quality.environment import measured, recordings
from tests.quality.report import Summary, summarize, violations
from tests.quality.sentences import own_references, own_sentences
from tests.quality.synthesis import Item, cut, espeak_reading, speak

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("quality"), pytest.mark.usefixtures("quality_environment")]

BOUNDS = json.loads(Path(__file__).with_name("bounds.json").read_text())
SENTENCES = ("plain", "questions-2", "lists-3")
SEED = 11  # not one of the calibration


def without_middle(samples: Samples) -> Samples:
    third = len(samples) // 3
    return np.concatenate([samples[:third], samples[-third:]])


def clipped(samples: Samples) -> Samples:
    return np.clip(samples, -0.2 * np.abs(samples).max(), 0.2 * np.abs(samples).max())


FAULTS: dict[str, Callable[[Samples], Samples]] = {
    "dropped words": without_middle,
    "clipping": clipped,
    "repeated sentence": lambda samples: np.concatenate([samples, samples]),
}


def planted(items: list[Item], fault: str, folder: Path) -> list[Item]:
    """Return the items with a fault in their audio."""
    copies = []
    for item in items:
        path = folder / f"{fault}-{item['sentence']}.wav"
        if fault == "another voice":
            program = shutil.which("espeak-ng")
            assert program, "espeak-ng is missing. On Debian: apt install espeak-ng"
            subprocess.run([program, "-w", path, item["spoken"][0]], check=True)
        else:
            samples, rate = sf.read(item["wav"], dtype="float32")
            sf.write(path, FAULTS[fault](samples), rate)
        copies.append(item | {"wav": str(path), "run": fault})
    return copies


@pytest.fixture(scope="module")
def summaries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Summary]:
    """Summaries of the service's speech, and of the same speech with planted faults."""
    folder = tmp_path_factory.mktemp("quality")
    references = own_references(recordings())
    sentences = [sentence for sentence in own_sentences() if sentence.name.startswith(SENTENCES)]
    with (
        running(folder / "service", {"TTS_BACKEND": "hibari"}) as stack,
        httpx.Client(base_url=stack.url, timeout=60) as client,
    ):
        items = speak(client, sentences, references[:-1], folder, seed=SEED, language="English")
    everything = [item | {"run": "speech"} for item in items]
    for fault in (*FAULTS, "another voice"):
        everything += planted(items[:1], fault, folder)
    speakers = {reference.name: cut(reference, folder) for reference in references} | espeak_reading(folder)
    files, _ = measured(everything, speakers, folder)
    runs = dict.fromkeys(file["run"] for file in files)
    return {run: summarize([file for file in files if file["run"] == run]) for run in runs}


def test_speech_is_within_bounds(summaries: dict[str, Summary]) -> None:
    assert violations(summaries["speech"], BOUNDS) == []


@pytest.mark.parametrize(
    ("fault", "measure"),
    [
        ("dropped words", "word_error_rate"),
        ("another voice", "similarity_margin"),
        ("clipping", "clipped"),
        ("repeated sentence", "repeated_words"),
    ],
)
def test_planted_fault_is_found(summaries: dict[str, Summary], fault: str, measure: str) -> None:
    assert measure in violations(summaries[fault], BOUNDS)
