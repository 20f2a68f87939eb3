"""Changes of a voice's name and description keep its id and its files."""

import asyncio

import pytest

from pipeline.contract import layout
from pipeline.contract.records import VoiceMetadata
from pipeline.domain import voice_changes, voice_renaming, voices
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.errors import InvalidInput, NotFound
from tests.support.fake_service import FakeService


def stored(fakes: FakeService, voice_id: str) -> VoiceMetadata:
    return VoiceMetadata.model_validate_json(fakes.voices.objects[layout.voice(None, voice_id).metadata].body)


async def test_rename_keeps_id() -> None:
    fakes = FakeService()
    session_id = await fakes.session("What I say.")
    before = await voice_changes.save(fakes.resources, None, session_id, "Nova", "calm", "I agree.")
    fakes.advance(days=1)
    renamed = await voice_renaming.rename(fakes.resources, None, "nova", name=" Aria ")
    expected = {"name": "Aria", "changed_at": fakes.time()}
    assert renamed.model_dump() == before.model_dump() | expected
    assert (await voice_renaming.rename(fakes.resources, None, "nova", description="")).description == ""
    assert (
        fakes.voices.objects[renamed.source_file].body
        == fakes.bucket.objects[layout.session(session_id).audio].body
    )
    assert (await voices.get(fakes.resources, None, "nova")).name == "Aria"


async def test_concurrent_renames() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova", "calm")
    await asyncio.gather(
        voice_renaming.rename(fakes.resources, None, "nova", name="Aria"),
        voice_renaming.rename(fakes.resources, None, "nova", description="hoarse"),
    )
    metadata = stored(fakes, "nova")
    assert (metadata.name, metadata.description) == ("Aria", "hoarse")


async def test_rename_invalid() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    for wrong in ({"name": " "}, {"name": "x" * 81}, {"description": "x" * 501}):
        with pytest.raises(InvalidInput):
            await voice_renaming.rename(fakes.resources, None, "nova", **wrong)
    assert stored(fakes, "nova").name == "Nova"
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    with pytest.raises(NotFound):
        await voice_renaming.rename(fakes.resources, None, "nova", name="Aria")
