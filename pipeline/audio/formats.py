"""The audio formats that are decoded: only those of common recorders, to limit the attack surface of decoders."""

import importlib.util
from typing import Literal

from pipeline.audio import mp3_frames, ogg_links, wav_sizes
from pipeline.errors import InvalidAudio

Container = Literal["wav", "flac", "ogg", "mp3", "mov", "matroska", "aac"]
FFMPEG_CONTAINERS: tuple[Container, ...] = ("mov", "matroska", "aac")

_WAV_CODECS = frozenset(
    {"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"}
)
# By libsndfile's names. OGG can hold FLAC or Speex too, WAV MP3 or GSM.
_CODECS = {
    "WAV": _WAV_CODECS,
    "WAVEX": _WAV_CODECS,
    "RF64": _WAV_CODECS,
    "FLAC": frozenset({"PCM_S8", "PCM_16", "PCM_24"}),
    "OGG": frozenset({"VORBIS", "OPUS"}),
    "MP3": frozenset({"MPEG_LAYER_III"}),
}
# Common names of one type. See https://mimesniff.spec.whatwg.org and the names that browsers and players send.
_CONTENT_TYPES = {
    "audio/wav": ("audio/x-wav", "audio/wave", "audio/x-pn-wav", "audio/vnd.wave"),
    "audio/flac": ("audio/x-flac", "application/flac", "application/x-flac"),
    "audio/ogg": ("application/ogg", "audio/x-ogg", "audio/opus", "audio/vorbis", "audio/x-vorbis+ogg"),
    "audio/mpeg": ("audio/mp3", "audio/x-mp3", "audio/mpeg3", "audio/x-mpeg", "audio/x-mpeg-3", "audio/mpg"),
    "audio/mp4": ("audio/m4a", "audio/x-m4a", "video/mp4"),
    "audio/webm": ("video/webm", "audio/x-matroska"),
    "audio/aac": ("audio/x-aac", "audio/aacp", "audio/x-hx-aac-adts"),
}
_BY_FFMPEG = {"audio/mp4", "audio/webm", "audio/aac"}


def has_ffmpeg() -> bool:
    """Return whether FFmpeg's decoders are installed, with PyAV."""
    return importlib.util.find_spec("av") is not None


def formats() -> str:
    """Return the formats that this installation decodes, for messages."""
    return "a WAV, FLAC, OGG, MP3, M4A, WebM or AAC file" if has_ffmpeg() else "a WAV, FLAC, OGG or MP3 file"


def standard_content_type(content_type: str) -> str:
    """Return the standard name of an audio type, without parameters.

    Raises
    ------
    ValueError
        This installation decodes no such format. The message completes a sentence about the field.
    """
    name = content_type.partition(";")[0].strip().lower()
    for standard, others in _CONTENT_TYPES.items():
        if name == standard or name in others:
            if standard in _BY_FFMPEG and not has_ffmpeg():
                break
            return standard
    known = [standard for standard in _CONTENT_TYPES if has_ffmpeg() or standard not in _BY_FFMPEG]
    raise ValueError(f"should be one of {', '.join(known)}")


def check_container(data: bytes) -> Container:
    """Return the container of a file, by its first bytes, before any decoder reads it.

    Raises
    ------
    InvalidAudio
        The format is not supported.
    """
    found = _container(data)
    if found is None or (found in FFMPEG_CONTAINERS and not has_ffmpeg()):
        raise unreadable()
    return found


def _container(data: bytes) -> Container | None:
    if data.startswith(wav_sizes.MAGIC):
        return "wav" if data[8:12] == b"WAVE" else None
    if data.startswith(ogg_links.MAGIC):
        return "ogg"
    if data[4:8] == b"ftyp":
        return "mov"
    if data.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    start = mp3_frames.skip_tags(data)
    if data.startswith(b"fLaC", start):
        return "flac"
    header = data[start : start + 2]
    if len(header) == 2 and header[0] == 0xFF and header[1] & 0xF6 == 0xF0:  # ADTS: twelve ones, and layer 00
        return "aac"
    return "mp3" if data.startswith(b"ID3") or mp3_frames.has_frames(data) else None


def check_codec(format_: str, subtype: str) -> None:
    """Check the codec that libsndfile read from a file's header, before anything is decoded.

    Raises
    ------
    InvalidAudio
        The codec is not supported.
    """
    if subtype not in _CODECS.get(format_, frozenset()):
        raise unreadable()


def unreadable() -> InvalidAudio:
    """Return the error for a file that is not decoded."""
    return InvalidAudio(f"The file can't be read as audio. It should be {formats()} that is whole.", field="audio")
