"""WAV files: what can be read from the header alone."""

import io
import wave
from dataclasses import dataclass, field

WAV = "audio/wav"


@dataclass(frozen=True, slots=True)
class EncodedRecording:
    """A validated recording: mono 16-bit WAV."""

    wav: bytes = field(repr=False)
    duration_seconds: float


def length_of_wav(head: bytes) -> tuple[int, float]:
    """Return sample rate (Hz) and duration (seconds) from the first bytes of a WAV that `encode_wav` wrote."""
    with wave.open(io.BytesIO(head)) as sound:
        return sound.getframerate(), sound.getnframes() / sound.getframerate()
