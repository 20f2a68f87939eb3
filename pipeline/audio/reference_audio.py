"""Recordings in and out: what comes from outside is checked here, before anything is stored."""

import io
import struct
from dataclasses import dataclass

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from pipeline.errors import InvalidAudio
from pipeline.settings import Settings

Samples = NDArray[np.float32]

LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
SILENCE_PEAK = 10 ** (-60 / 20)  # -60 dBFS, well under the noise of any microphone
SHORTFALL_SECONDS = 0.1  # lossy formats round their length to whole frames
_UNKNOWN_FRAMES = 2**48  # libsndfile says SF_COUNT_MAX for a stream of unknown length
_UNKNOWN_BYTES = 0x7FFF0000  # writers to a pipe leave 0xFFFFFFFF, 0x7FFFFFFF or nearly that in the header
_CHUNKED = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">", b"FORM": ">"}  # the byte order of WAV's family and AIFF
_OGG_PAGE = 27  # bytes of a page's header before its table of segments (RFC 3533)


@dataclass(frozen=True, slots=True)
class Recording:
    """Mono audio: `samples` is float32 in [-1, 1] of shape (frames,), `sample_rate` in Hz."""

    samples: Samples
    sample_rate: int

    @property
    def duration_seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.sample_rate


class _Bytes(io.BytesIO):
    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        # A damaged header lets libsndfile seek before the start; an exception in its callback goes to stderr.
        if whence == io.SEEK_SET:
            offset = max(0, offset)
        return super().seek(offset, whence)


class _Forward(sf.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file that is only read on; seeking after each read fails at the end of a FLAC of unknown length."""

    def seekable(self) -> bool:
        """Say that it is not."""
        return False


def decode_reference(data: bytes, settings: Settings) -> Recording:
    """Decode whatever libsndfile reads, mixed to mono, if it is fit to be a reference.

    The length is checked from the header before anything is decoded, and again while decoding: a small file
    can hold hours, and its header can lie.

    Raises
    ------
    InvalidAudio
        Not audio, truncated, no samples, too short, too long, silent, or not finite.
    """
    formats = "a WAV, FLAC, OGG or MP3 file"
    if not data:
        raise InvalidAudio(f"The file is empty; it should be {formats}.", field="audio")
    try:
        with _Forward(_Bytes(data)) as sound:
            _check_header(sound, data, settings)
            samples = _read_mono(sound, settings)
            expected = sound.frames if sound.frames < _UNKNOWN_FRAMES else 0
            rate = sound.samplerate
    except sf.LibsndfileError as error:
        raise InvalidAudio(
            f"The file can't be read as audio; it should be {formats} that is whole.", field="audio"
        ) from error
    if expected - len(samples) > SHORTFALL_SECONDS * rate:
        raise _truncated()
    _check_samples(samples, rate, settings)
    return Recording(_within_full_scale(samples), rate)


def encode_wav(recording: Recording) -> bytes:
    """Write 16-bit PCM WAV."""
    buffer = io.BytesIO()
    sf.write(buffer, recording.samples, recording.sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def decode_wav(body: bytes) -> Recording:
    """Read back what `encode_wav` wrote.

    Raises
    ------
    InvalidAudio
        It is something else.
    """
    try:
        samples, rate = sf.read(io.BytesIO(body), dtype="float32")
    except sf.LibsndfileError as error:
        raise InvalidAudio("The stored reference can't be read; upload it again.") from error
    return Recording(samples, rate)


def _check_header(sound: sf.SoundFile, data: bytes, settings: Settings) -> None:
    if _is_cut_short(data):
        raise _truncated()
    if not LOWEST_RATE <= sound.samplerate <= HIGHEST_RATE:
        raise InvalidAudio(
            f"The sample rate is {sound.samplerate} Hz; it should be from {LOWEST_RATE} to {HIGHEST_RATE} Hz.",
            field="audio",
        )
    if sound.frames == 0:
        raise InvalidAudio(f"The file holds no samples; it should hold {_length_wanted(settings)}.", field="audio")
    if sound.frames < _UNKNOWN_FRAMES and sound.frames > settings.reference_max_seconds * sound.samplerate:
        raise _too_long(f"lasts {sound.frames / sound.samplerate:.1f} s", settings)


def _read_mono(sound: sf.SoundFile, settings: Settings) -> Samples:
    limit = int(settings.reference_max_seconds * sound.samplerate)
    blocks: list[Samples] = []
    frames = 0
    while True:
        block = sound.read(sound.samplerate, dtype="float32", always_2d=True)  # (up to one second, channels)
        if len(block) == 0:
            break
        frames += len(block)
        if frames > limit:
            raise _too_long("lasts longer than its header says", settings)
        with np.errstate(over="ignore", invalid="ignore"):  # NaN and infinity are looked for in what comes out
            blocks.append(block.mean(axis=1, dtype=np.float32))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _check_samples(samples: Samples, rate: int, settings: Settings) -> None:
    seconds = len(samples) / rate
    if len(samples) == 0:
        raise InvalidAudio(f"The file holds no samples; it should hold {_length_wanted(settings)}.", field="audio")
    if seconds < settings.reference_min_seconds:
        raise InvalidAudio(
            f"The recording lasts {seconds:.2f} s, which is too short; it should be {_length_wanted(settings)}.",
            field="audio",
        )
    if not np.isfinite(samples).all():
        raise InvalidAudio("The recording holds NaN or infinite samples; they should be finite.", field="audio")
    if np.ptp(samples) < 2 * SILENCE_PEAK:
        raise InvalidAudio("The recording is silent; it should hold someone speaking.", field="audio")


def _within_full_scale(samples: Samples) -> Samples:
    peak = float(np.abs(samples).max())
    return samples / np.float32(peak) if peak > 1 else samples


def _is_cut_short(data: bytes) -> bool:
    """Tell whether the file promises more bytes than follow; libsndfile reads on without a word."""
    if data.startswith(b"OggS"):
        return _ogg_is_cut_short(data)
    order = _CHUNKED.get(data[:4])
    return order is not None and _chunks_are_cut_short(data, order)


def _chunks_are_cut_short(data: bytes, order: str) -> bool:
    position, long_size = 12, None
    while position + 8 <= len(data):
        name, size = struct.unpack_from(f"{order}4sI", data, position)
        position += 8
        if name == b"ds64" and position + 16 <= len(data):
            long_size = struct.unpack_from("<Q", data, position + 8)[0]
        if name in {b"data", b"SSND"}:
            if size >= _UNKNOWN_BYTES:
                size = long_size or 0
            return bool(position + size > len(data))
        position += size + size % 2
    return False


def _ogg_is_cut_short(data: bytes) -> bool:
    position = 0
    while data.startswith(b"OggS", position):
        segments = position + _OGG_PAGE
        table = data[segments : segments + data[segments - 1]] if segments <= len(data) else b""
        position = segments + len(table) + sum(table)
    return position > len(data)


def _length_wanted(settings: Settings) -> str:
    return f"{settings.reference_min_seconds:g} to {settings.reference_max_seconds:g} s of speech"


def _too_long(finding: str, settings: Settings) -> InvalidAudio:
    return InvalidAudio(
        f"The recording {finding}, which is too long; it should be {_length_wanted(settings)}.", field="audio"
    )


def _truncated() -> InvalidAudio:
    return InvalidAudio("The file is truncated: it ends before its header says. Upload it whole.", field="audio")
