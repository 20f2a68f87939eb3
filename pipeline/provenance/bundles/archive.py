"""The zip file of a voice bundle: the files that it may contain, and their limits."""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping

from pipeline.errors import InvalidInput, TooLarge
from pipeline.settings import Settings

MANIFEST, SIGNATURE = "manifest.json", "signature.json"
METADATA, RECORDING, TRANSCRIPTION = "metadata.json", "recording.wav", "transcription.txt"
PROMPT, CONSENT_TEXT, CONSENT_RECORDING = "prompt.json", "consent.txt", "consent.wav"

_JSON_MAX = 64 * 1024
_PROMPT_MAX = 16 * 1024 * 1024
_CHARACTER_BYTES = 4  # of UTF-8
_DIRECTORY_MAX = 16 * 1024
_END, _END_BYTES = b"PK\x05\x06", 22
_ZIP64, _ZIP64_BYTES = b"PK\x06\x07", 20
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a zip file. Equal files give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def limits(settings: Settings) -> dict[str, int]:
    """Return the files that a bundle may contain, and their maximum sizes in bytes."""
    text = _CHARACTER_BYTES * settings.transcription_max_chars
    return {
        MANIFEST: _JSON_MAX,
        SIGNATURE: _JSON_MAX,
        METADATA: _JSON_MAX,
        RECORDING: settings.reference_max_bytes,
        TRANSCRIPTION: text,
        PROMPT: _PROMPT_MAX,
        CONSENT_TEXT: _JSON_MAX,
        CONSENT_RECORDING: settings.reference_max_bytes,
    }


def unpack(data: bytes, settings: Settings) -> dict[str, bytes]:
    """Return the files of a zip file by name. The memory is bounded by `limits`.

    Raises
    ------
    InvalidInput
        It is damaged, or has a file that a bundle does not have.
    TooLarge
        A file is too large.
    """
    _check_directory(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _files(archive, limits(settings))
    except _DAMAGE as error:
        raise invalid("The file is not a zip file, or is damaged.") from error


def invalid(message: str) -> InvalidInput:
    """Return the error for a bundle that can't be imported."""
    return InvalidInput(message, field="bundle")


def _check_directory(data: bytes) -> None:
    """Check the size of the list of files before it is read: it may contain hundreds of thousands."""
    end = data[-_END_BYTES:]
    before = data[-_END_BYTES - _ZIP64_BYTES : -_END_BYTES]
    if not end.startswith(_END) or before.startswith(_ZIP64):
        raise invalid("The file is not a zip file, or has a comment, or is in the format ZIP64.")
    if int.from_bytes(end[12:16], "little") > _DIRECTORY_MAX:
        raise invalid("The zip file contains too many files.")


def _files(archive: zipfile.ZipFile, allowed: Mapping[str, int]) -> dict[str, bytes]:
    files = dict[str, bytes]()
    for entry in archive.infolist():
        name = entry.filename
        if name not in allowed or name in files:
            raise invalid(f"The zip file contains {name[:64]!r}, which is not a file of a voice bundle, or twice.")
        if entry.flag_bits & 1 or entry.compress_type not in _METHODS:
            raise invalid(f"{name} should be stored or deflated, without encryption.")
        with archive.open(entry) as file:
            content = file.read(allowed[name] + 1)
        if len(content) > allowed[name]:
            raise TooLarge(f"{name} is too large. It should have at most {allowed[name]} bytes.", field="bundle")
        files[name] = content
    return files
