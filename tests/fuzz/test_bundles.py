"""Damaged voice bundles are imported or refused, and leave nothing behind if refused."""

import asyncio
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract import layout
from pipeline.contract.records import VoiceMetadata
from pipeline.errors import InvalidInput
from pipeline.provenance.bundles import archive, export, importing, signature
from pipeline.provenance.signing_key import signing_key
from pipeline.settings import Settings
from tests.fuzz.mutations import changed_document, damaged, encoded_json, fuzzed
from tests.support.bundles import foreign_bundle
from tests.support.fake_service import PROMPT, FakeService

BUNDLE = foreign_bundle()
FILES = {
    name: content
    for name, content in archive.unpack(BUNDLE, Settings()).items()
    if name not in {archive.MANIFEST, archive.SIGNATURE}
}
CONSENT = {"text": "I agree.", "given_at": "2026-01-01T00:00:00Z", "person": "Ann", "languages": ["en"]}
METADATA = {**json.loads(FILES[archive.METADATA]), "description": "calm", "consent": CONSENT}


async def imported(fakes: FakeService, bundle: bytes) -> VoiceMetadata | InvalidInput:
    async def read() -> bytes:
        return bundle

    async def passed(session_id: str) -> None: ...

    try:
        return await importing.import_voice(fakes.resources, None, read, check=passed)
    except InvalidInput as error:
        return error


async def import_or_refuse(fakes: FakeService, bundle: bytes) -> None:
    result = await imported(fakes, bundle)
    if isinstance(result, InvalidInput):
        assert result.message
        assert not fakes.voice_keys()
        assert not fakes.keys(layout.UPLOADS)
    else:
        assert await export.make_bundle(fakes.resources, None, result.voice_id)


async def import_signed(files: dict[str, bytes]) -> None:
    """Import files that this installation has signed, whose prompt and consent are trusted."""
    fakes = FakeService()
    signed = signature.signed(files, await signing_key(fakes.resources))
    await import_or_refuse(fakes, archive.pack(signed))


@fuzzed
@given(damaged([BUNDLE]))
def test_damaged_bundle(data: bytes) -> None:
    asyncio.run(import_or_refuse(FakeService(), data))


@fuzzed
@given(changed_document(METADATA))
def test_changed_metadata(metadata: Any) -> None:
    asyncio.run(import_signed({**FILES, archive.METADATA: encoded_json(metadata)}))


NAMES = sorted({*FILES, archive.TRANSCRIPTION, archive.PROMPT, archive.CONSENT_TEXT, archive.CONSENT_RECORDING})
WHOLE = {
    **FILES,
    archive.METADATA: encoded_json(METADATA),
    archive.TRANSCRIPTION: "Größe.".encode(),
    archive.PROMPT: PROMPT,
    archive.CONSENT_TEXT: b"I agree.",
    archive.CONSENT_RECORDING: FILES[archive.RECORDING],
}


@fuzzed
@given(st.sampled_from(NAMES), st.data())
def test_damaged_file_in_signed_bundle(name: str, data: st.DataObject) -> None:
    asyncio.run(import_signed({**WHOLE, name: data.draw(damaged([WHOLE[name]]))}))


def test_whole_bundle_is_imported() -> None:
    async def run() -> None:
        fakes = FakeService()
        signed = signature.signed(WHOLE, await signing_key(fakes.resources))
        await import_or_refuse(fakes, archive.pack(signed))
        assert fakes.voice_keys()

    asyncio.run(run())


@fuzzed
@given(changed_document(json.loads(archive.unpack(BUNDLE, Settings())[archive.MANIFEST])), st.data())
def test_changed_manifest_or_signature(manifest: Any, data: st.DataObject) -> None:
    files = archive.unpack(BUNDLE, Settings())
    if data.draw(st.booleans()):
        files[archive.MANIFEST] = encoded_json(manifest)
    else:
        files[archive.SIGNATURE] = encoded_json(data.draw(changed_document(json.loads(files[archive.SIGNATURE]))))
    asyncio.run(import_or_refuse(FakeService(), archive.pack(files)))
