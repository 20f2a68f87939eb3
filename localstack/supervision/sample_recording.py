"""A sample recording for a first test: a few synthetic seconds with the pitch and vowels of a voice."""

from pathlib import Path

import numpy as np

from pipeline.audio.reference_audio import Recording, Samples, encode_wav

RATE = 24_000
SECONDS = 4.0
HARMONICS = 40
SYLLABLES_PER_SECOND = 4
TRANSCRIPTION = "Hello, this is a sample of a voice."

# The first three formants (Hz) of a, i, o, e, u.
VOWELS = np.array([[730, 1090, 2440], [270, 2290, 3010], [570, 840, 2410], [530, 1840, 2480], [300, 870, 2240]])
BANDWIDTHS = np.array([90, 110, 170])


def write_sample(path: Path) -> None:
    """Write the sample unless the file exists."""
    if not path.exists():
        path.write_bytes(encode_wav(Recording(synthesise(), RATE)))


def synthesise() -> Samples:
    """Synthesise vowels: harmonics of a falling pitch, weighted by the formants of each vowel."""
    time = np.arange(int(SECONDS * RATE)) / RATE  # [T]
    pitch = 135 - 6 * time + 5 * np.sin(2 * np.pi * 0.9 * time)  # [T] Hz
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    position = time * SYLLABLES_PER_SECOND
    formants = VOWELS[position.astype(int) % len(VOWELS)]  # [T, 3] Hz
    sound = np.zeros_like(time)
    for harmonic in range(1, HARMONICS + 1):
        distance = (harmonic * pitch[:, None] - formants) / BANDWIDTHS  # [T, 3]
        sound += (1 / (1 + distance**2)).sum(axis=1) / harmonic * np.sin(harmonic * phase)
    # Each syllable fades in and out, which also smooths the transition between vowels.
    sound *= np.sin(np.pi * (position % 1)) ** 0.5
    return np.asarray(0.6 * sound / np.abs(sound).max(), np.float32)
