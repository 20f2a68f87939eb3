"""Import of voice bundles: the round trip, trust in their signers, hostile files, and crashes."""

import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audio.reference_audio import encoded
from pipeline.contract import layout
from pipeline.contract.records import VoiceMetadata
from pipeline.domain import voice_changes
from pipeline.domain.consents import recorded
from pipeline.errors import ConsentRequired, InvalidInput, NameTaken, TooLarge, Unavailable
from pipeline.provenance.bundles import archive, export, importing, signature
from pipeline.provenance.signing_key import SigningKey, signing_key
from pipeline.settings import Settings
from tests.support.fake_service import PROMPT, Crash, FakeService, reference_recording
from tests.support.saved_voices import stored_voice

SETTINGS = Settings()


async def exported(fakes: FakeService, **more: Any) -> bytes:
    await voice_changes.save(fakes.resources, None, await fakes.session("Größe."), "Növa", "calm", **more)
    return await export.make_bundle(fakes.resources, None, "nova")


async def imported(fakes: FakeService, bundle: bytes, name: str | None = None) -> VoiceMetadata:
    async def read() -> bytes:
        return bundle

    async def passed(session_id: str) -> None: ...

    return await importing.import_voice(fakes.resources, None, read, name, check=passed)


def files_of(bundle: bytes) -> dict[str, bytes]:
    return archive.unpack(bundle, SETTINGS)


async def key_of(fakes: FakeService) -> SigningKey:
    return await signing_key(fakes.resources)


async def signed_again(fakes: FakeService, bundle: bytes, changed: Mapping[str, bytes]) -> bytes:
    """Return a bundle with other files, signed by the same installation."""
    files = {**files_of(bundle), **changed}
    for name in (archive.MANIFEST, archive.SIGNATURE):
        files.pop(name)
    return archive.pack(signature.signed(files, await key_of(fakes)))


def with_metadata(bundle: bytes, **changes: Any) -> dict[str, bytes]:
    return {archive.METADATA: json.dumps(json.loads(files_of(bundle)[archive.METADATA]) | changes).encode()}


async def test_voice_moves_to_other_installation() -> None:
    one, other = FakeService(), FakeService()
    recording = encoded(reference_recording())
    consent = await recorded.create(one.resources, None, "Mine", "en", "Yes.", recording)
    bundle = await exported(one, consent_id=consent.consent_id)
    other.advance(days=1)
    voice = await imported(other, bundle)
    original = stored_voice(one, "nova")
    assert (voice.name, voice.description, voice.voice_id) == ("Növa", "calm", "nova")
    assert voice.created_at == other.time()
    assert voice.imported is not None
    assert (voice.imported.voice_id, voice.imported.created_at) == ("nova", original.created_at)
    assert (voice.imported.signer, voice.imported.is_trusted) == ((await key_of(one)).key_id, False)
    assert voice.consent is not None
    assert (voice.consent.text, voice.consent.given_at) == ("Yes.", consent.record.given_at)
    keys, source = layout.voice_files(voice), layout.voice_files(original)
    assert other.voices.objects[keys.audio].body == one.voices.objects[source.audio].body
    assert other.voices.objects[keys.transcription].body.decode() == "Größe."
    assert voice.consent.recording_file
    assert other.voices.objects[voice.consent.recording_file].body == recording.wav


async def test_import_again_here_with_prompt() -> None:
    fakes = FakeService()
    bundle = await exported(fakes)
    with pytest.raises(NameTaken):
        await imported(fakes, bundle)
    voice = await imported(fakes, bundle, "Another")
    assert voice.imported is not None
    assert voice.imported.is_trusted
    assert fakes.voices.objects[layout.voice_files(voice).embedding].body == PROMPT
    assert fakes.synthesis.bodies == []


async def test_prompt_of_unknown_installation_is_dropped() -> None:
    one, other = FakeService(), FakeService()
    voice = await imported(other, await exported(one))
    assert layout.voice_files(voice).embedding not in other.voices.objects
    assert voice.model is None
    assert len(other.synthesis.bodies) == 1  # makes the prompt again


async def test_keys_in_settings_are_trusted() -> None:
    one, unknown = FakeService(), FakeService()
    public_key = json.loads(files_of(await exported(one))[archive.SIGNATURE])["public_key"]
    other = FakeService(Settings(bundle_trusted_keys=f" {public_key} ,"))
    voice = await imported(other, await export.make_bundle(one.resources, None, "nova"))
    assert voice.imported is not None
    assert voice.imported.is_trusted
    assert layout.voice_files(voice).embedding in other.voices.objects
    with pytest.raises(InvalidInput, match="not trusted"):
        await imported(other, await exported(unknown))


def test_trusted_keys_are_validated() -> None:
    with pytest.raises(ValueError, match="32 bytes in base64"):
        Settings(bundle_trusted_keys="AAAA")


async def test_checks_of_consent_need_trust() -> None:
    one, other = FakeService(), FakeService(Settings(consent="require"))
    bundle = await exported(one, consent="I agree.")
    metadata = json.loads(files_of(bundle)[archive.METADATA])
    review = {"decision": "accepted", "reviewed_at": "2026-01-01T00:00:00Z"}
    metadata["consent"] |= {"review": review}
    changed = await signed_again(one, bundle, with_metadata(bundle, consent=metadata["consent"]))
    with pytest.raises(ConsentRequired):
        await imported(other, changed)
    assert other.voice_keys() == []
    assert other.keys(layout.UPLOADS) == []


@pytest.mark.parametrize("missing", [archive.MANIFEST, archive.SIGNATURE])
async def test_unsigned_bundle_is_refused(missing: str) -> None:
    fakes = FakeService()
    files = files_of(await exported(fakes))
    del files[missing]
    with pytest.raises(InvalidInput, match=missing):
        await imported(fakes, archive.pack(files), "Another")


async def test_changed_file_is_refused() -> None:
    fakes = FakeService()
    files = files_of(await exported(fakes))
    manifest = files[archive.MANIFEST].replace(b'"sha256": "', b'"sha256": "0')
    with pytest.raises(InvalidInput, match="valid signature"):
        await imported(fakes, archive.pack({**files, archive.MANIFEST: manifest}), "Another")
    for name in files.keys() - {archive.MANIFEST, archive.SIGNATURE}:
        with pytest.raises(InvalidInput):
            await imported(fakes, archive.pack({**files, name: files[name] + b" "}), "Another")
    with pytest.raises(InvalidInput, match=r"manifest\.json"):
        await imported(fakes, archive.pack({**files, archive.CONSENT_TEXT: b"Yes."}), "Another")


async def test_signature_of_other_key_is_refused() -> None:
    one, other = FakeService(), FakeService()
    files, others = files_of(await exported(one)), files_of(await exported(other))
    mixed = json.loads(files[archive.SIGNATURE]) | {
        "public_key": json.loads(others[archive.SIGNATURE])["public_key"]
    }
    with pytest.raises(InvalidInput, match="valid signature"):
        await imported(one, archive.pack({**files, archive.SIGNATURE: json.dumps(mixed).encode()}), "Another")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "x" * 81},
        {"name": "a\u202eb"},
        {"description": "x" * 501},
        {"created_at": "yesterday"},
        {"consent": {"text": "x" * 1001, "given_at": "2026-01-01T00:00:00Z"}},
        {"consent": {"text": "Yes.", "given_at": "2026-01-01T00:00:00Z", "reference_sha256": "0" * 64}},
        {"consent": {"text": "Yes.", "given_at": "2026-01-01T00:00:00Z", "recording_sha256": "0" * 64}},
    ],
)
async def test_invalid_metadata_is_refused(changes: dict[str, Any]) -> None:
    fakes = FakeService()
    bundle = await exported(fakes)
    with pytest.raises(InvalidInput):
        await imported(fakes, await signed_again(fakes, bundle, with_metadata(bundle, **changes)))
    assert len(fakes.voice_keys()) == 4


async def test_invalid_files_are_refused() -> None:
    fakes = FakeService()
    bundle = await exported(fakes)
    wav = files_of(bundle)[archive.RECORDING]
    for name, content in [
        (archive.RECORDING, b"RIFF"),
        (archive.RECORDING, wav + b"hidden"),
        (archive.TRANSCRIPTION, b"\xff"),
        (archive.TRANSCRIPTION, b"x" * (SETTINGS.transcription_max_chars + 1)),
        (archive.PROMPT, b"\x80\x04pickle"),
        (archive.METADATA, b"[" * 10_000),
        (archive.CONSENT_RECORDING, wav),
    ]:
        with pytest.raises(InvalidInput):
            await imported(fakes, await signed_again(fakes, bundle, {name: content}), "Another")


def zipped(*entries: tuple[str, bytes], **how: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = how.get("method", zipfile.ZIP_DEFLATED)
            file.writestr(info, content)
        file.comment = how.get("comment", b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        zipped(("../metadata.json", b"{}")),
        zipped(("/metadata.json", b"{}")),
        zipped(("metadata.json/", b"")),
        zipped(("METADATA.JSON", b"{}")),
        zipped(("metadata.json", b"{}"), ("metadata.json", b"{}")),
        zipped(("metadata.json", b"{}"), method=zipfile.ZIP_BZIP2),
        zipped(("metadata.json", b"{}"), comment=b"comment"),
        zipped(*((f"{number}", b"") for number in range(1000))),
        zipped(("metadata.json", b"{}")).replace(b"\x00\x00\x08\x00", b"\x01\x00\x08\x00"),
    ],
    ids=range(11),
)
def test_hostile_archive_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        archive.unpack(data, SETTINGS)


def test_zip_bomb_is_refused() -> None:
    bomb = zipped(("metadata.json", bytes(50 * 1024 * 1024)))
    assert len(bomb) < 100_000
    with pytest.raises(TooLarge):
        archive.unpack(bomb, SETTINGS)


BUNDLE = archive.pack({archive.METADATA: b'{"name": "Nova"}', archive.RECORDING: bytes(range(256)) * 8})


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(BUNDLE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_archive_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(BUNDLE)
    for position, value in changes:
        data[position] = value
    try:
        files = archive.unpack(bytes(data), SETTINGS)
    except InvalidInput:
        return
    assert files.keys() <= archive.limits(SETTINGS).keys()
    assert all(len(content) <= archive.limits(SETTINGS)[name] for name, content in files.items())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_hostile_manifest_is_refused(manifest: bytes, signed: bytes) -> None:
    with pytest.raises(InvalidInput):
        signature.verified({archive.MANIFEST: manifest, archive.SIGNATURE: signed})


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(JSON_VALUES, st.fixed_dictionaries(dict.fromkeys(("algorithm", "value", "public_key"), JSON_VALUES)))
def test_json_manifest_is_refused(manifest: Any, signed: Any) -> None:
    files = {archive.MANIFEST: json.dumps(manifest).encode(), archive.SIGNATURE: json.dumps(signed).encode()}
    with pytest.raises(InvalidInput):
        signature.verified(files)


async def test_interrupted_import_is_swept() -> None:
    bundle = await exported(FakeService())
    steps = 0
    while True:
        fakes = FakeService()
        await key_of(fakes)
        fakes.fail_after(steps)
        try:
            await imported(fakes, bundle)
        except Crash:
            fakes.recover()
        else:
            break
        fakes.advance(seconds=voice_changes.CHANGE_TIMEOUT.total_seconds())
        await voice_changes.finish_changes(fakes.resources)
        if fakes.voice_keys():
            assert stored_voice(fakes, "nova").is_ready
            assert stored_voice(fakes, "nova").imported
        else:
            await imported(fakes, bundle)
        assert fakes.keys(layout.CHANGES) == []
        steps += 1
    assert steps >= 10


async def test_failing_storage_saves_nothing() -> None:
    fakes = FakeService()
    bundle = await exported(FakeService())
    fakes.bucket.switch.is_up = False
    with pytest.raises(Unavailable):
        await imported(fakes, bundle)
    fakes.bucket.switch.is_up = True
    assert fakes.voice_keys() == []


async def test_import_is_audited() -> None:
    fakes = FakeService()
    bundle = await exported(FakeService())
    await imported(fakes, bundle)
    entries = [json.loads(fakes.bucket.objects[key].body) for key in fakes.keys(layout.AUDIT_PENDING)]
    (entry,) = [entry for entry in entries if entry["action"] == "imported"]
    assert (entry["voice_id"], entry["hashes"]) == ("nova", {"bundle": sha256(bundle).hexdigest()})
