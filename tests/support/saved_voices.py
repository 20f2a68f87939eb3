"""Saved voices in the fakes, for tests of their changes."""

from pipeline.contract import layout
from pipeline.contract.records import VoiceMetadata
from pipeline.domain.revocation import revoke
from tests.support.fake_service import PROMPT, FakeService


def stored_voice(fakes: FakeService, voice_id: str) -> VoiceMetadata:
    """Return the metadata of a voice without an owner."""
    return VoiceMetadata.model_validate_json(fakes.voices.objects[layout.voice(None, voice_id).metadata].body)


async def complete_revocations(fakes: FakeService) -> None:
    """Complete all revocations, as the sweep does a minute later."""
    fakes.advance(seconds=revoke.SETTLE_TIME.total_seconds())
    await revoke.finish_revocations(fakes.resources)


def assert_complete(fakes: FakeService, voice_id: str, session_id: str) -> None:
    """Assert that a voice is complete, with the files of one session only."""
    metadata = stored_voice(fakes, voice_id)
    keys, source = layout.voice_files(metadata), layout.session(session_id)
    assert (metadata.status, metadata.reference_id) == ("ready", session_id)
    assert fakes.voices.objects[keys.audio].body == fakes.bucket.objects[source.audio].body
    assert fakes.voices.objects[keys.transcription].body == fakes.bucket.objects[source.transcription].body
    assert fakes.voices.objects[keys.embedding].body == PROMPT


def keys_of_voice(voice_id: str, session_id: str, *names: str) -> list[str]:
    """Return the keys of a voice; all of them unless some are named."""
    names = names or ("embedding.json", "source.wav", "transcription.txt")
    folder = f"audio/voices/{voice_id}"
    return [*(f"{folder}/{session_id}/{name}" for name in names), f"{folder}/metadata.json"]
