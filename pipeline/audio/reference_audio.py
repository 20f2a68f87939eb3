"""Decoding, validation and encoding of recordings.  Uploaded audio is validated here before it is stored."""

import io
import struct
from dataclasses import dataclass

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from pipeline.audio.formats import FORMATS, WAV_MAGIC, check_codec, check_container, unreadable
from pipeline.audio.wav import EncodedRecording
from pipeline.errors import InvalidAudio
from pipeline.settings import Settings

Samples = NDArray[np.float32]

LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
CHANNELS_MAX = 8
# The most samples per second, of all channels together: those of stereo at the highest rate.
SAMPLES_PER_SECOND_MAX = 2 * HIGHEST_RATE
SILENCE_PEAK = 10 ** (-60 / 20)  # -60 dBFS, well below the noise floor of any microphone
SHORTFALL_SECONDS = 0.1  # lossy formats round their length to whole frames
_UNKNOWN_FRAMES = 2**48  # libsndfile reports SF_COUNT_MAX for a stream of unknown length
_UNKNOWN_BYTES = 0x7FFF0000  # programs that write to a pipe set 0xFFFFFFFF, 0x7FFFFFFF or nearly that
_OGG_PAGE = 27  # bytes of a page's header before its table of segments (RFC 3533)
_BLOCK_FRAMES = 2**16


@dataclass(frozen=True, slots=True)
class Recording:
    """Mono audio: `samples` is float32 in [-1, 1] of shape (frames,), `sample_rate` in Hz."""

    samples: Samples
    sample_rate: int

    @property
    def duration_seconds(self) -> float:
        """The duration in seconds."""
        return len(self.samples) / self.sample_rate


class _Bytes(io.BytesIO):
    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        # A damaged header lets libsndfile seek before the start; an exception in its callback goes to stderr.
        if whence == io.SEEK_SET:
            offset = max(0, offset)
        return super().seek(offset, whence)


class _Forward(sf.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file that is read sequentially; seeking after each read fails at the end of a FLAC of unknown length."""

    def seekable(self) -> bool:
        """Return False."""
        return False


def decode_reference(data: bytes, settings: Settings) -> Recording:
    """Return the recording, mixed down to mono, if it is valid as a reference.

    Channels and length are checked from the header before anything is decoded, the length again while decoding:
    a small file can hold hours, and its header can be wrong.  Decoding needs some 5 bytes for each frame that
    REFERENCE_MAX_SECONDS allow, besides `data`.

    Raises
    ------
    InvalidAudio
        Not audio, truncated, too many channels, no samples, too short, too long, silent, or not finite.
    """
    if not data:
        raise InvalidAudio(f"The file is empty; it should be {FORMATS}.", field="audio")
    check_container(data)
    try:
        with _Forward(_Bytes(data)) as sound:
            check_codec(sound.format, sound.subtype)
            _check_header(sound, data, settings)
            samples = _read_mono(sound, settings)
            expected = sound.frames if sound.frames < _UNKNOWN_FRAMES else 0
            rate = sound.samplerate
    except sf.LibsndfileError as error:
        raise unreadable() from error
    if expected - len(samples) > SHORTFALL_SECONDS * rate:
        raise _truncated()
    _check_samples(samples, rate, settings)
    return Recording(_within_full_scale(samples), rate)


def transcode_reference(data: bytes, settings: Settings) -> EncodedRecording:
    """Decode a reference with `decode_reference`, and encode it as WAV."""
    return encoded(decode_reference(data, settings))


def encoded(recording: Recording) -> EncodedRecording:
    """Return the recording as WAV, with its duration."""
    return EncodedRecording(encode_wav(recording), recording.duration_seconds)


def encode_wav(recording: Recording) -> bytes:
    """Return the recording as mono 16-bit PCM WAV."""
    buffer = io.BytesIO()
    sf.write(buffer, recording.samples, recording.sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def decode_wav(body: bytes) -> Recording:
    """Return the recording that `encode_wav` wrote; its samples have twice the size of `body`.

    Raises
    ------
    InvalidAudio
        It has another format.
    """
    try:
        with sf.SoundFile(io.BytesIO(body)) as sound:
            if (sound.format, sound.subtype, sound.channels) != ("WAV", "PCM_16", 1):
                raise _unreadable()
            return Recording(sound.read(dtype="float32"), sound.samplerate)
    except sf.LibsndfileError as error:
        raise _unreadable() from error


def _check_header(sound: sf.SoundFile, data: bytes, settings: Settings) -> None:
    if _is_cut_short(data):
        raise _truncated()
    if not LOWEST_RATE <= sound.samplerate <= HIGHEST_RATE:
        raise InvalidAudio(
            f"The sample rate is {sound.samplerate} Hz; it should be from {LOWEST_RATE} to {HIGHEST_RATE} Hz.",
            field="audio",
        )
    if sound.channels > CHANNELS_MAX:
        raise InvalidAudio(
            f"The recording has {sound.channels} channels; it should have one, and at most {CHANNELS_MAX}.",
            field="audio",
        )
    if sound.channels * sound.samplerate > SAMPLES_PER_SECOND_MAX:
        raise InvalidAudio(
            f"The recording has {sound.channels} channels of {sound.samplerate} Hz; so many should have at most "
            f"{SAMPLES_PER_SECOND_MAX // sound.channels} Hz.",
            field="audio",
        )
    if sound.frames == 0:
        raise _no_samples(settings)
    if sound.frames < _UNKNOWN_FRAMES and sound.frames > settings.reference_max_seconds * sound.samplerate:
        raise _too_long(f"lasts {sound.frames / sound.samplerate:.1f} s", settings)


def _read_mono(sound: sf.SoundFile, settings: Settings) -> Samples:
    samples = np.empty(int(settings.reference_max_seconds * sound.samplerate), np.float32)
    block = np.empty((_BLOCK_FRAMES, sound.channels), np.float32)
    frames = 0
    while len(part := sound.read(out=block)):
        if frames + len(part) > len(samples):
            raise _too_long("lasts longer than its header says", settings)
        with np.errstate(over="ignore", invalid="ignore"):  # the result is checked for NaN and infinity
            part.mean(axis=1, dtype=np.float32, out=samples[frames : frames + len(part)])
        frames += len(part)
    return samples[:frames]


def _check_samples(samples: Samples, rate: int, settings: Settings) -> None:
    seconds = len(samples) / rate
    if len(samples) == 0:
        raise _no_samples(settings)
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
    peak = max(samples.max(), -samples.min())
    if peak > 1:
        samples /= peak
    return samples


def _is_cut_short(data: bytes) -> bool:
    """Return whether the header declares more bytes than follow; libsndfile does not check that."""
    if data.startswith(b"OggS"):
        return _ogg_is_cut_short(data)
    return data.startswith(WAV_MAGIC) and _wav_is_cut_short(data)


def _wav_is_cut_short(data: bytes) -> bool:
    position, long_size = 12, None
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"ds64" and position + 16 <= len(data):
            long_size = struct.unpack_from("<Q", data, position + 8)[0]
        if name == b"data":
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


def _no_samples(settings: Settings) -> InvalidAudio:
    return InvalidAudio(f"The file holds no samples; it should hold {_length_wanted(settings)}.", field="audio")


def _unreadable() -> InvalidAudio:
    return InvalidAudio("The stored reference can't be read; upload it again.")


def _truncated() -> InvalidAudio:
    return InvalidAudio("The file is truncated: it ends before its header says. Upload it whole.", field="audio")
