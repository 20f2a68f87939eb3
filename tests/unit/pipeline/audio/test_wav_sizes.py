"""WAV files whose declared size is unknown or wrong are read to their end."""

import struct

import pytest

from pipeline.audio.reference_audio import decode_reference
from pipeline.errors import InvalidAudio
from pipeline.settings import Settings
from tests.support.recordings import encoded, tone, with_bytes

SETTINGS = Settings()
WAV = encoded()
SIZE = len(WAV) - 44


def with_size(size: int, data: bytes = WAV) -> bytes:
    return with_bytes(data, data.index(b"data") + 4, struct.pack("<I", size))


@pytest.mark.parametrize(
    "size",
    [
        0,
        SETTINGS.reference_max_bytes + 1,
        0x3FFFFFFF,
        0x40000000,
        2_000_000_000,
        0x7FFFF000,
        0x7FFFFFFF,
        0x80000000 - 36,
        0xFFFFFFFF - 36,
        0xFFFFFFFF,
    ],
)
@pytest.mark.parametrize("riff_size", [None, 0, 36, 0xFFFFFFFF])
def test_wav_unknown_size(size: int, riff_size: int | None) -> None:
    data = with_size(size)
    if riff_size is not None:
        data = with_bytes(data, 4, struct.pack("<I", riff_size))
    assert decode_reference(data, SETTINGS).duration_seconds == 2


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "ULAW"])
def test_wav_unknown_size_of_codec(subtype: str) -> None:
    data = encoded(tone(), "WAV", subtype)
    assert decode_reference(with_size(0, data), SETTINGS).duration_seconds == 2
    assert decode_reference(with_size(0xFFFFFFFF, data), SETTINGS).duration_seconds == 2


@pytest.mark.parametrize("wrong", [-3, -1, 1, 2, 3, 8, 36, 44])
def test_wav_size_slightly_wrong(wrong: int) -> None:
    assert decode_reference(with_size(SIZE + wrong), SETTINGS).duration_seconds == pytest.approx(2, abs=0.001)


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_wav_last_frame_incomplete(missing: int) -> None:
    stereo = encoded(tone(channels=2))
    for data in (WAV, stereo, encoded(tone(), "RF64")):
        assert decode_reference(data[:-missing], SETTINGS).duration_seconds == pytest.approx(2, abs=0.001)


@pytest.mark.parametrize("missing", [100, 5000, SIZE // 2])
def test_wav_truncated(missing: int) -> None:
    for data in (WAV[:-missing], with_size(SIZE + missing), encoded(tone(), "RF64")[:-missing]):
        with pytest.raises(InvalidAudio, match="truncated"):
            decode_reference(data, SETTINGS)


@pytest.mark.parametrize("size", [0, 2**40, 2**64 - 1])
def test_rf64_unknown_size(size: int) -> None:
    data = encoded(tone(), "RF64")
    at = data.index(b"ds64") + 16
    assert decode_reference(with_bytes(data, at, struct.pack("<Q", size)), SETTINGS).duration_seconds == 2


def test_wav_unknown_size_too_long() -> None:
    with pytest.raises(InvalidAudio, match="too long"):
        decode_reference(with_size(0, encoded(tone(61, rate=8000), rate=8000)), SETTINGS)


@pytest.mark.parametrize("after", [b"", b"LIST\x04\0\0\0INFO", b"LIST\x05\0\0\0INFOx\0id3 \x02\0\0\0ab"])
def test_wav_without_samples(after: bytes) -> None:
    with pytest.raises(InvalidAudio, match="no samples"):
        decode_reference(with_size(0, WAV[:44]) + after, SETTINGS)
