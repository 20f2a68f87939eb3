"""The sample recording can be cloned from."""

from pathlib import Path

import numpy as np
from supervision.sample_recording import synthesise, write_sample

from pipeline.audio.reference_audio import decode_reference
from pipeline.settings import Settings


def test_sample_is_valid_reference(tmp_path: Path) -> None:
    path = tmp_path / "sample.wav"
    write_sample(path)
    recording = decode_reference(path.read_bytes(), Settings())
    assert recording.duration_seconds > 3
    spectrum = np.abs(np.fft.rfft(recording.samples))
    loudest = np.argmax(spectrum) * recording.sample_rate / len(recording.samples)
    assert 80 < loudest < 3000
    assert np.abs(synthesise()).max() < 1


def test_existing_sample_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "sample.wav"
    path.write_bytes(b"mine")
    write_sample(path)
    assert path.read_bytes() == b"mine"
