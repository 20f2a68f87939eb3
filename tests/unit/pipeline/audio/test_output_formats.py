"""Encoders keep length and loudness, for whole files and for streams."""

import io
from collections.abc import Sequence

import av
import numpy as np
import pytest
import soundfile as sf

from pipeline.audio.output_formats import FORMATS, FormatName, encoder, file_encoder
from pipeline.audio.reference_audio import Samples, encode_wav
from pipeline.audio.wav import streamed_wav_header
from tests.support.speech import voice

RATE = 24_000
RECORDING = voice(150.0, seconds=2.03, sample_rate=RATE)
WAV = encode_wav(RECORDING)
SAMPLES = WAV[44:]
FRAMES = len(SAMPLES) // 2
LOSSLESS: Sequence[FormatName] = ("wav", "flac", "pcm")
EXACT: Sequence[FormatName] = ("wav", "flac", "mp3", "opus", "pcm")


def decoded(body: bytes, name: FormatName) -> Samples:
    """Decode with FFmpeg, which removes the padding that a file declares; mono, at 24 kHz."""
    if name == "pcm":
        return np.frombuffer(body, "<i2").astype(np.float32) / np.float32(32768)
    resampler = av.AudioResampler("flt", "mono", RATE)
    with av.open(io.BytesIO(body), "r") as file:
        frames = [new for frame in file.decode(audio=0) for new in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def encoded_file(name: FormatName) -> bytes:
    """Encode a complete file in slices of half a second."""
    writer, body = file_encoder(FORMATS[name], RATE), b""
    for start in range(0, len(SAMPLES), RATE):
        body += writer.encode(SAMPLES[start : start + RATE])
    return body + writer.finish()


def streamed(name: FormatName) -> tuple[bytes, list[int]]:
    """Encode 80 ms at a time; return the file and its size after each piece."""
    making, body, sizes = encoder(FORMATS[name], RATE), b"", []
    for start in range(0, len(SAMPLES), 2 * RATE * 8 // 100):
        body += making.encode(SAMPLES[start : start + 2 * RATE * 8 // 100])
        sizes.append(len(body))
    return body + making.finish(), sizes


@pytest.mark.parametrize("name", FORMATS)
def test_transcode_keeps_length_and_loudness(name: FormatName) -> None:
    samples = decoded(encoded_file(name), name)
    assert rms(samples) == pytest.approx(rms(RECORDING.samples), rel=0.05)
    assert len(samples) - FRAMES in (range(1) if name in EXACT else range(3 * 1024))


@pytest.mark.parametrize("name", EXACT)
def test_transcode_exact_length_for_libsndfile(name: FormatName) -> None:
    if name != "pcm":
        samples, rate = sf.read(io.BytesIO(encoded_file(name)))
        assert (len(samples), rate) == (FRAMES, RATE)


@pytest.mark.parametrize("name", FORMATS)
def test_encoder_output_is_playable_early(name: FormatName) -> None:
    body, sizes = streamed(name)
    samples = decoded(body, name)
    assert 0 <= len(samples) - FRAMES <= 3 * 1152
    assert rms(samples) == pytest.approx(rms(RECORDING.samples), rel=0.05)
    beginning = decoded(body[: sizes[5]], name)  # half a second was made
    assert len(beginning) >= 0.25 * RATE


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_are_exact(name: FormatName) -> None:
    for body in (encoded_file(name), streamed(name)[0]):
        assert np.array_equal(np.rint(decoded(body, name) * 32768).astype(np.int16), np.frombuffer(SAMPLES, "<i2"))


def test_streamed_wav_header_is_readable() -> None:
    samples, rate = sf.read(io.BytesIO(streamed_wav_header(RATE) + SAMPLES), dtype="int16")
    assert rate == RATE
    assert samples.tobytes() == SAMPLES
