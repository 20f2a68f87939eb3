"""Export of a saved voice as one file: a zip of its recording and metadata."""

import asyncio
import io
import json
import zipfile

from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import VoiceMetadata
from pipeline.domain import kept_consent, voices
from pipeline.errors import TooLarge
from pipeline.ids import Owner

ZIP = "application/zip"

# The fields that describe the voice itself, not how this service stores it.
_DESCRIBED = {
    "voice_id",
    "name",
    "description",
    "created_at",
    "duration_seconds",
    "sample_rate",
    "model",
    "consent",
}


async def make_bundle(resources: Resources, owner: Owner, voice_id: str) -> bytes:
    """Return the zip of a voice: its metadata, recording and transcription, and its consent (text and recording).

    What was not given has no file.

    Raises
    ------
    NotFound
        There is no voice with that id.
    TooLarge
        It is larger than the limit of a response.
    """
    metadata = await voices.get(resources, owner, voice_id)
    keys = layout.voice_files(metadata)
    recording, transcription = await asyncio.gather(
        resources.voices.get(keys.audio), resources.voices.get(keys.transcription)
    )
    if recording is None:  # deleted meanwhile
        raise voices.unknown(voice_id)
    files = _files(metadata, recording, transcription)
    if consent := await kept_consent.recording_of(resources, metadata):
        files["consent.wav"] = consent
    bundle = _zip_of(files)
    limit = resources.settings.answer_max_bytes
    if limit and len(bundle) > limit:
        raise TooLarge(
            f"The bundle has {len(bundle)} bytes, more than a response may have. "
            f"Use /voices/{voice_id} and /voices/{voice_id}/sample instead."
        )
    return bundle


def _files(metadata: VoiceMetadata, recording: bytes, transcription: bytes | None) -> dict[str, bytes]:
    described = metadata.model_dump(
        mode="json", include=_DESCRIBED, exclude={"consent": {"recording_file"}}, exclude_none=True
    )
    files = {
        "metadata.json": json.dumps(described, indent=2, ensure_ascii=False).encode(),
        "recording.wav": recording,
    }
    if transcription is not None:
        files["transcription.txt"] = transcription
    if metadata.consent is not None:
        files["consent.txt"] = metadata.consent.text.encode()
    return files


def _zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in files.items():
            # Without the creation time of the archive, so that the file is reproducible.
            bundle.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
