"""The audio formats that are decoded: common recording formats only, to limit the attack surface of libsndfile."""

from pipeline.errors import InvalidAudio

FORMATS = "a WAV, FLAC, OGG or MP3 file"
WAV_MAGIC = (b"RIFF", b"RF64")

_WAV_CODECS = frozenset(
    {"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"}
)
# By libsndfile's names; OGG can hold FLAC or Speex too, WAV MP3 or GSM.
_CODECS = {
    "WAV": _WAV_CODECS,
    "WAVEX": _WAV_CODECS,
    "RF64": _WAV_CODECS,
    "FLAC": frozenset({"PCM_S8", "PCM_16", "PCM_24"}),
    "OGG": frozenset({"VORBIS", "OPUS"}),
    "MP3": frozenset({"MPEG_LAYER_III"}),
}


def check_container(data: bytes) -> None:
    """Check the first bytes of a file for a supported container, before any decoder reads it.

    Raises
    ------
    InvalidAudio
        It is of another format.
    """
    is_wav = data.startswith(WAV_MAGIC) and data[8:12] == b"WAVE"
    if not (is_wav or data.startswith((b"fLaC", b"OggS", b"ID3")) or _is_mp3_frame(data)):
        raise unreadable()


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
    return InvalidAudio(f"The file can't be read as audio; it should be {FORMATS} that is whole.", field="audio")


def _is_mp3_frame(data: bytes) -> bool:
    """Return whether the data begins with the header of a layer III frame: eleven ones, and 01 for the layer."""
    return len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2
