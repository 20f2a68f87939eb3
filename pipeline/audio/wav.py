"""WAV files, as far as they are known without decoding them."""

import io
import wave
from dataclasses import dataclass, field

WAV = "audio/wav"


@dataclass(frozen=True, slots=True)
class EncodedRecording:
    """A recording that was checked: mono 16-bit WAV."""

    wav: bytes = field(repr=False)
    duration_seconds: float


def length_of_wav(head: bytes) -> tuple[int, float]:
    """Return sample rate (Hz) and duration (seconds) from the first bytes of what `encode_wav` wrote."""
    with wave.open(io.BytesIO(head)) as sound:
        return sound.getframerate(), sound.getnframes() / sound.getframerate()
