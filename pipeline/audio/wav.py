"""Stored recordings, as far as they are known without decoding them."""

import io
import wave

WAV = "audio/wav"


def length_of_wav(head: bytes) -> tuple[int, float]:
    """Read sample rate (Hz) and duration (seconds) from the first bytes of what `audio.encode_wav` wrote."""
    with wave.open(io.BytesIO(head)) as sound:
        return sound.getframerate(), sound.getnframes() / sound.getframerate()
