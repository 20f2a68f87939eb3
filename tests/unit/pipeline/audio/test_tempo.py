"""Changes of tempo keep the pitch."""

import numpy as np
import pytest

from gpu_runner.engines.pitch import median_pitch
from pipeline.audio.output_formats import FASTEST, SLOWEST
from pipeline.audio.reference_audio import Recording
from pipeline.audio.tempo import TempoChange
from tests.support.speech import voice

RATE = 24_000
SECONDS = 3.0
SAMPLES = (voice(150.0, seconds=SECONDS, sample_rate=RATE).samples * 32767).astype("<i2").tobytes()


def changed(speed: float, piece_bytes: int) -> bytes:
    tempo = TempoChange(RATE, speed)
    pieces = [SAMPLES[start : start + piece_bytes] for start in range(0, len(SAMPLES), piece_bytes)]
    return b"".join(map(tempo.change, pieces)) + tempo.finish()


def recording(samples: bytes) -> Recording:
    return Recording((np.frombuffer(samples, "<i2") / 32768).astype(np.float32), RATE)


@pytest.mark.parametrize("speed", [SLOWEST, 0.5, 0.9, 1.1, 2.0, 3.0, FASTEST])
def test_tempo_changes_length_not_pitch(speed: float) -> None:
    heard = recording(changed(speed, 15_360))
    assert len(heard.samples) / RATE == pytest.approx(SECONDS / speed, rel=0.05)
    assert median_pitch(heard) == pytest.approx(150, rel=0.05)


@pytest.mark.parametrize("speed", [0.5, 1.7])
def test_tempo_ignores_chunk_size(speed: float) -> None:
    one, other = changed(speed, 15_360), changed(speed, 962)
    assert len(one) == pytest.approx(len(other), rel=0.01)
    common = int(len(one) * 0.95)  # the end is rounded to what the filter has
    assert one[:common] == other[:common]


def test_tempo_output_is_incremental() -> None:
    tempo = TempoChange(RATE, 2.0)
    came = b"".join(tempo.change(SAMPLES[start : start + 15_360]) for start in range(0, 4 * 15_360, 15_360))
    assert len(came) > 15_360


def test_tempo_of_no_samples() -> None:
    tempo = TempoChange(RATE, 2.0)
    assert tempo.change(b"") + tempo.finish() == b""
