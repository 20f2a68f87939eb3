"""Only common recording formats reach the decoders of libsndfile."""

import io

import numpy as np
import pytest
import soundfile as sf

from pipeline.audio.reference_audio import decode_reference
from pipeline.errors import InvalidAudio
from pipeline.settings import Settings

RATE = 16_000
TONE = 0.5 * np.sin(2 * np.pi * 180 * np.arange(2 * RATE) / RATE)


def encoded(format_: str, subtype: str, endian: str = "FILE") -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, TONE, RATE, format=format_, subtype=subtype, endian=endian)
    return buffer.getvalue()


RARE = [
    ("AIFF", "PCM_16"),
    ("AU", "PCM_16"),
    ("AVR", "PCM_16"),
    ("CAF", "ALAC_16"),
    ("HTK", "PCM_16"),
    ("IRCAM", "PCM_16"),
    ("MAT4", "PCM_16"),
    ("MAT5", "PCM_16"),
    ("NIST", "PCM_16"),
    ("PAF", "PCM_16"),
    ("PVF", "PCM_16"),
    ("SVX", "PCM_16"),
    ("VOC", "PCM_16"),
    ("W64", "PCM_16"),
    ("WAV", "G721_32"),
    ("WAV", "GSM610"),
    ("WAV", "NMS_ADPCM_16"),
]


@pytest.mark.parametrize(("format_", "subtype"), RARE)
def test_rare_format_is_refused(format_: str, subtype: str) -> None:
    with pytest.raises(InvalidAudio, match="WAV, FLAC, OGG, MP3, M4A, WebM or AAC"):
        decode_reference(encoded(format_, subtype), Settings())


def test_big_endian_wav_is_refused() -> None:
    with pytest.raises(InvalidAudio, match="WAV, FLAC, OGG, MP3, M4A, WebM or AAC"):
        decode_reference(encoded("WAV", "PCM_16", endian="BIG"), Settings())
