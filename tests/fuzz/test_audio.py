"""Damaged recordings are decoded or refused."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audio.reference_audio import Recording, decode_reference, encode_wav
from pipeline.audio.wav import length_of_wav
from pipeline.errors import InvalidAudio
from pipeline.settings import Settings
from tests.fuzz.mutations import damaged, fuzzed
from tests.support.recordings import encoded, encoded_by_ffmpeg, tone

SETTINGS = Settings()
RATE = 8000
FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAV", "ULAW"),
    ("WAV", "IMA_ADPCM"),
    ("WAV", "MS_ADPCM"),
    ("WAVEX", "PCM_16"),
    ("RF64", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", None),
]
SEEDS = {
    f"{format_} {subtype}": [
        encoded(tone(1.2, rate=RATE, channels=channels), format_, subtype, rate=RATE) for channels in (1, 2)
    ]
    for format_, subtype in FORMATS
}
CPU_SECONDS = 5  # of one file; a whole one takes some milliseconds


def decoded(data: bytes) -> Recording | InvalidAudio:
    try:
        return decode_reference(data, SETTINGS)
    except InvalidAudio as error:
        return error


def check_decoded_or_refused(data: bytes) -> None:
    began = time.process_time()
    result = decoded(data)
    if isinstance(result, InvalidAudio):
        assert result.field == "audio"
    else:
        assert np.isfinite(result.samples).all()
        assert np.abs(result.samples).max() <= 1
        assert length_of_wav(encode_wav(result)) == (result.sample_rate, result.duration_seconds)
    assert time.process_time() - began < CPU_SECONDS


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_recording(name: str) -> None:
    @fuzzed
    @given(damaged(SEEDS[name]))
    def check(data: bytes) -> None:
        check_decoded_or_refused(data)

    check()


@fuzzed
@given(st.data())
def test_joined_recordings(data: st.DataObject) -> None:
    """Parts of different formats in one file."""
    parts = data.draw(st.lists(st.sampled_from(sorted(SEEDS)), min_size=2, max_size=3))
    check_decoded_or_refused(b"".join(data.draw(damaged(SEEDS[name])) for name in parts))


# The polynomial of the checksum of a page (RFC 3533, appendix A).
_POLYNOMIAL = 0x04C11DB7


def _table_entry(byte: int) -> int:
    value = byte << 24
    for _ in range(8):
        value = (value << 1 ^ (_POLYNOMIAL if value & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return value


_TABLE = [_table_entry(byte) for byte in range(256)]


def with_checksums(data: bytes) -> bytes:
    """Return an Ogg file with valid checksums of its pages: decoders skip pages with others."""
    pages = data.split(b"OggS")
    fixed = [pages[0]]
    for page in pages[1:]:
        plain = b"OggS" + page[:18] + bytes(4) + page[22:]
        checksum = 0
        for byte in plain:
            checksum = (checksum << 8 & 0xFFFF_FFFF) ^ _TABLE[checksum >> 24 ^ byte]
        fixed.append(plain[4:22] + checksum.to_bytes(4, "little") + page[22:])
    return b"OggS".join(fixed)


OGG = [encoded(tone(1.1, rate=RATE), "OGG", subtype, rate=RATE) for subtype in ("VORBIS", "OPUS")]


def test_checksums_are_right() -> None:
    assert [with_checksums(file) for file in OGG] == OGG


@fuzzed
@given(damaged(OGG))
def test_damaged_ogg_with_valid_checksums(data: bytes) -> None:
    check_decoded_or_refused(with_checksums(data))


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("webm", "libopus"), ("adts", "aac")])
def test_damaged_ffmpeg_recording(container: str, codec: str) -> None:
    seed = encoded_by_ffmpeg(tone(1.2, rate=48_000), container, codec)

    @settings(fuzzed, max_examples=max(5, fuzzed.max_examples // 20))  # each starts a process
    @given(damaged([seed]))
    def check(data: bytes) -> None:
        check_decoded_or_refused(data)

    check()
