"""Decoding, validation and encoding of recordings.  Uploaded audio is validated here before it is stored."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from pipeline.audio import ffmpeg_decoder, mp3_frames, ogg_links
from pipeline.audio.formats import check_codec, check_container, formats, unreadable
from pipeline.audio.wav import EncodedRecording
from pipeline.audio.wav_sizes import Patch, Truncated, size_patch
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
_MP3_PADDING_SECONDS = 0.5  # encoders add some silence, which decoders remove
_BLOCK_FRAMES = 2**16
# If a mix has less of the power of the loudest channel, the other channels are silent or cancel it.
_MIX_POWER_MIN = 0.3


@dataclass(frozen=True, slots=True)
class Recording:
    """Mono audio: `samples` is float32 in [-1, 1] of shape (frames,), `sample_rate` in Hz."""

    samples: Samples
    sample_rate: int

    @property
    def duration_seconds(self) -> float:
        """The duration."""
        return len(self.samples) / self.sample_rate


class _Bytes(io.BytesIO):
    """A file in memory, of which some bytes are replaced when they are read."""

    def __init__(self, data: bytes, patch: Patch | None = None) -> None:
        super().__init__(data)  # shares the memory of `data` as long as nothing is written
        self._patch = patch

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        # A damaged header lets libsndfile seek before the start. An exception in its callback goes to stderr.
        if whence == io.SEEK_SET:
            offset = max(0, offset)
        return super().seek(offset, whence)

    def readinto(self, buffer: Any, /) -> int:
        start = self.tell()
        size = super().readinto(buffer)
        if self._patch:
            for index, byte in enumerate(self._patch.body, self._patch.position - start):
                if 0 <= index < size:
                    memoryview(buffer).cast("B")[index] = byte
        return size


class _Forward(sf.SoundFile):  # type: ignore[misc]  # soundfile has no types
    def seekable(self) -> bool:
        # Otherwise soundfile seeks after each read, which fails at the end of a FLAC of unknown length.
        return False


def decode_reference(data: bytes, settings: Settings) -> Recording:
    """Return the recording, mixed down to mono, if it is valid as a reference.

    Channels and length are checked from the header before anything is decoded, the length again while decoding:
    a small file can hold hours, and its header can be wrong.  Decoding needs some 5 bytes for each frame that
    REFERENCE_MAX_SECONDS allow, besides `data` and a copy of it.

    Raises
    ------
    InvalidAudio
        Not audio, truncated, too many channels, no samples, too short, too long, silent, or not finite.
    """
    if not data:
        raise InvalidAudio(f"The file is empty. It should be {formats()}.", field="audio")
    try:
        files = _files(data, settings)
        rate = _check_headers(files, settings)
        samples = np.empty(int(settings.reference_max_seconds * rate), np.float32)
        frames = 0
        for file in files:
            frames += _decode(file, samples[frames:], settings)
    except Truncated as error:
        raise _truncated() from error
    except (sf.LibsndfileError, mp3_frames.NoFrames) as error:
        raise unreadable() from error
    _check_samples(samples[:frames], rate, settings)
    return Recording(_within_full_scale(samples[:frames]), rate)


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
    """Return the recording that `encode_wav` wrote. Its samples have twice the size of `body`.

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


def _files(data: bytes, settings: Settings) -> list[_Bytes]:
    """Return the file as one or more that libsndfile decodes completely."""
    match check_container(data):
        case "wav":
            return [_Bytes(data, size_patch(data, settings.reference_max_bytes))]
        case "flac":
            return [_Bytes(data[mp3_frames.skip_tags(data) :])]
        case "ogg":
            links, is_whole = ogg_links.split_links(data)
            if not is_whole:
                raise Truncated
            return [_Bytes(link) for link in links]
        case "mp3":
            longest = settings.reference_max_seconds + _MP3_PADDING_SECONDS
            mp3 = mp3_frames.prepare(data, longest)
            seconds = sum(part.seconds for part in mp3.parts)
            if seconds > longest:
                raise _too_long(f"lasts {seconds:.1f} s", settings)
            if mp3.missing_seconds > SHORTFALL_SECONDS:
                raise Truncated
            return [_Bytes(part.data) for part in mp3.parts]
        case container:
            wav = ffmpeg_decoder.to_wav(data, container, settings, max_samples_per_second=SAMPLES_PER_SECOND_MAX)
            return [_Bytes(wav, size_patch(wav, settings.reference_max_bytes))]


def _check_headers(files: list[_Bytes], settings: Settings) -> int:
    """Check the headers of all parts of a recording. Return their sample rate in Hz."""
    rates, seconds = set[int](), 0.0
    for file in files:
        with _opened(file) as sound:
            check_codec(sound.format, sound.subtype)
            _check_header(sound, settings)
            rates.add(sound.samplerate)
            if sound.frames < _UNKNOWN_FRAMES:
                seconds += sound.frames / sound.samplerate
    if seconds > settings.reference_max_seconds:
        raise _too_long(f"lasts {seconds:.1f} s", settings)
    if len(rates) > 1:
        listed = " and ".join(str(rate) for rate in sorted(rates))
        raise InvalidAudio(
            f"The file joins recordings with the sample rates {listed} Hz. Convert it to one.", field="audio"
        )
    return rates.pop()


def _check_header(sound: sf.SoundFile, settings: Settings) -> None:
    if not LOWEST_RATE <= sound.samplerate <= HIGHEST_RATE:
        raise InvalidAudio(
            f"The sample rate is {sound.samplerate} Hz. It should be from {LOWEST_RATE} to {HIGHEST_RATE} Hz.",
            field="audio",
        )
    if sound.channels > CHANNELS_MAX:
        raise InvalidAudio(
            f"The recording has {sound.channels} channels. It should have at most {CHANNELS_MAX}.",
            field="audio",
        )
    if sound.channels * sound.samplerate > SAMPLES_PER_SECOND_MAX:
        raise InvalidAudio(
            f"The recording has {sound.channels} channels of {sound.samplerate} Hz. With so many channels, "
            f"it should have at most {SAMPLES_PER_SECOND_MAX // sound.channels} Hz.",
            field="audio",
        )
    if sound.frames == 0:
        raise _no_samples(settings)


def _opened(file: _Bytes) -> _Forward:
    file.seek(0)
    return _Forward(file)


def _decode(file: _Bytes, samples: Samples, settings: Settings) -> int:
    """Decode a file to mono into the beginning of `samples`. Return the number of frames.

    The channels are averaged.  If that loses most of the power, because a channel is the negative of another or
    most channels are silent, the loudest channel is used instead.
    """
    with _opened(file) as sound:
        expected = sound.frames if sound.frames < _UNKNOWN_FRAMES else 0
        frames, sums, squares = 0, np.zeros(sound.channels + 1), np.zeros(sound.channels + 1)
        for block in _blocks(sound, len(samples), settings):
            mixed = samples[frames : frames + len(block)]
            with np.errstate(over="ignore", invalid="ignore"):  # the result is checked for NaN and infinity
                block.mean(axis=1, dtype=np.float32, out=mixed)
                if sound.channels > 1:
                    for channel, values in enumerate([*block.T, mixed]):
                        sums[channel] += values.sum(dtype=np.float64)
                        squares[channel] += np.square(values, dtype=np.float64).sum()
            frames += len(block)
        if expected - frames > SHORTFALL_SECONDS * sound.samplerate:
            raise Truncated
    with np.errstate(invalid="ignore"):
        power = squares - np.square(sums) / max(1, frames)  # without a constant offset
    loudest = int(np.argmax(power[:-1]))
    if np.isfinite(power).all() and power[-1] < _MIX_POWER_MIN * power[loudest]:
        with _opened(file) as sound:
            position = 0
            for block in _blocks(sound, frames, settings):
                samples[position : position + len(block)] = block[:, loudest]
                position += len(block)
    return frames


def _blocks(sound: sf.SoundFile, max_frames: int, settings: Settings) -> Iterator[Samples]:
    """Yield the frames in blocks of shape (frames, channels), which are valid until the next one."""
    block, frames = np.empty((_BLOCK_FRAMES, sound.channels), np.float32), 0
    while len(part := sound.read(out=block)):
        frames += len(part)
        if frames > max_frames:
            raise _too_long("lasts longer than its header says", settings)
        yield part


def _check_samples(samples: Samples, rate: int, settings: Settings) -> None:
    seconds = len(samples) / rate
    if len(samples) == 0:
        raise _no_samples(settings)
    if seconds < settings.reference_min_seconds:
        raise InvalidAudio(
            f"The recording lasts {seconds:.2f} s, which is too short. It should be {_length_wanted(settings)}.",
            field="audio",
        )
    if not np.isfinite(samples).all():
        raise InvalidAudio("The recording has NaN or infinite samples. They should be finite.", field="audio")
    if np.ptp(samples) < 2 * SILENCE_PEAK:
        raise InvalidAudio("The recording is silent. It should contain speech.", field="audio")


def _within_full_scale(samples: Samples) -> Samples:
    peak = max(samples.max(), -samples.min())
    if peak > 1:
        samples /= peak
    return samples


def _length_wanted(settings: Settings) -> str:
    return f"{settings.reference_min_seconds:g} to {settings.reference_max_seconds:g} s of speech"


def _too_long(finding: str, settings: Settings) -> InvalidAudio:
    return InvalidAudio(
        f"The recording {finding}, which is too long. It should be {_length_wanted(settings)}.", field="audio"
    )


def _no_samples(settings: Settings) -> InvalidAudio:
    return InvalidAudio(f"The file has no samples. It should have {_length_wanted(settings)}.", field="audio")


def _unreadable() -> InvalidAudio:
    return InvalidAudio("The stored reference can't be read. Upload it again.")


def _truncated() -> InvalidAudio:
    return InvalidAudio("The file is truncated: it ends before its header says. Upload it whole.", field="audio")
