"""Synthetic reference recordings with a known pitch."""

import numpy as np

from pipeline.audio.reference_audio import Recording, encode_wav


def voice(pitch: float, *, seconds: float = 2.0, sample_rate: int = 16_000, loudness: float = 0.3) -> Recording:
    """Return vowel-like syllables at a pitch in Hz: harmonics with vibrato, pauses and a little noise."""
    moments = np.arange(int(seconds * sample_rate)) / sample_rate
    melody = pitch * (1 + 0.03 * np.sin(2 * np.pi * 0.9 * moments))
    phase = 2 * np.pi * np.cumsum(melody) / sample_rate
    wave = sum(np.sin(n * phase) / n for n in range(1, 9) if n * pitch < sample_rate / 2)
    syllables = np.clip(np.sin(2 * np.pi * 1.9 * moments), 0, None)
    noise = np.random.default_rng(1).normal(0, 0.003, len(moments))
    return Recording((loudness * wave * syllables + noise).astype(np.float32), sample_rate)


def voice_wav(pitch: float, *, seconds: float = 2.0) -> bytes:
    """Return `voice` as WAV."""
    return encode_wav(voice(pitch, seconds=seconds))
