"""The speaker embeddings of the worker equal those of Resemblyzer, for real readings."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from environments import ROOT

from gpu_runner.analysis.audio import MODEL_RATE, at_model_rate
from gpu_runner.analysis.speaker import embed, embed_parts, mean_embedding, similarity
from pipeline.audio.reference_audio import Samples
from tests.quality.environment import quality_python, recordings

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("quality"), pytest.mark.usefixtures("quality_environment")]

READINGS = ("two_cities", "beckett", "clone-test", "endgame_nagg_nell")
Embeddings = dict[str, dict[str, list[float]]]  # by reading and kind

TOLERANCE = 1e-5  # float32, sums in another order


@pytest.fixture(scope="module")
def readings() -> dict[str, Samples]:
    """Readings at the rate of the models."""
    folder = recordings()
    samples = {}
    for name in READINGS:
        stereo, rate = sf.read(folder / f"{name}.wav", dtype="float32", always_2d=True)
        samples[name] = at_model_rate(stereo.mean(axis=1), rate)
    return samples


@pytest.fixture(scope="module")
def originals(readings: dict[str, Samples], tmp_path_factory: pytest.TempPathFactory) -> Embeddings:
    """Embeddings of the readings by Resemblyzer."""
    folder = tmp_path_factory.mktemp("readings")
    paths = [folder / f"{name}.wav" for name in readings]
    for path, samples in zip(paths, readings.values(), strict=True):
        sf.write(path, samples, MODEL_RATE, subtype="FLOAT")
    return dict(zip(readings, embedded(paths), strict=True))


def embedded(paths: list[Path]) -> list[dict[str, list[float]]]:
    command = [str(quality_python()), "-W", "ignore", "-m", "tests.quality.speaker_embeddings", *map(str, paths)]
    result: list[dict[str, list[float]]] = json.loads(subprocess.check_output(command, cwd=ROOT))
    return result


@pytest.mark.parametrize("name", READINGS)
def test_embeddings_equal_resemblyzer(name: str, readings: dict[str, Samples], originals: Embeddings) -> None:
    parts = embed_parts(readings[name])
    assert parts == pytest.approx(np.array(originals[name]["parts"]), abs=TOLERANCE)
    assert mean_embedding(parts) == pytest.approx(np.array(originals[name]["whole"]), abs=TOLERANCE)


@pytest.mark.parametrize("name", READINGS)
def test_removed_pauses_are_similar(name: str, readings: dict[str, Samples], originals: Embeddings) -> None:
    usual = np.array(originals[name]["usual"], np.float32)
    assert similarity(embed(readings[name], MODEL_RATE), usual) > 0.97
