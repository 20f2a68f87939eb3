"""Export of a saved voice as one signed file."""

import asyncio
import json

from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import VoiceMetadata
from pipeline.domain import voices
from pipeline.domain.consents import kept
from pipeline.errors import TooLarge
from pipeline.ids import Owner
from pipeline.provenance.bundles import archive, signature
from pipeline.provenance.signing_key import signing_key

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
    """Return the zip of a voice: metadata, recording, transcription, prompt and consent (text and recording).

    What was not given has no file. A manifest has the hashes of the files, and is signed.

    Raises
    ------
    NotFound
        There is no voice with that id.
    TooLarge
        It is larger than the limit of a response.
    """
    metadata = await voices.get(resources, owner, voice_id)
    keys = layout.voice_files(metadata)
    recording, transcription, prompt, consent, key = await asyncio.gather(
        resources.voices.get(keys.audio),
        resources.voices.get(keys.transcription),
        resources.voices.get(keys.embedding),
        kept.recording_of(resources, metadata),
        signing_key(resources),
    )
    if recording is None:  # deleted meanwhile
        raise voices.unknown(voice_id)
    files = _files(metadata, recording, transcription)
    if prompt is not None:
        files[archive.PROMPT] = prompt
    if consent is not None:
        files[archive.CONSENT_RECORDING] = consent
    bundle = archive.pack(signature.signed(files, key))
    limit = resources.settings.answer_max_bytes
    if limit and len(bundle) > limit:
        raise TooLarge(
            f"The bundle has {len(bundle)} bytes, more than a response may have. "
            f"Use /voices/{voice_id} and /voices/{voice_id}/sample instead."
        )
    return bundle


def _files(metadata: VoiceMetadata, recording: bytes, transcription: bytes | None) -> dict[str, bytes]:
    described = metadata.model_dump(
        mode="json", include=_DESCRIBED, exclude={"consent": {"recording_file", "token_sha256"}}, exclude_none=True
    )
    files = {
        archive.METADATA: json.dumps(described, indent=2, ensure_ascii=False).encode(),
        archive.RECORDING: recording,
    }
    if transcription is not None:
        files[archive.TRANSCRIPTION] = transcription
    if metadata.consent is not None:
        files[archive.CONSENT_TEXT] = metadata.consent.text.encode()
    return files
