"""Revocation of a voice: what is removed, what remains, and what happens after a crash."""

import asyncio
import json
from dataclasses import replace

import pytest

from pipeline.access.audit.chain import append_all_pending, lines
from pipeline.access.owners import new_id
from pipeline.audio.reference_audio import encoded
from pipeline.audio.wav import WAV
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import Failed, ReplyTo, Request, Source, Subscriber
from pipeline.contract.revocations import Certificate
from pipeline.domain import acceptance, jobs, voice_changes, voice_renaming, voices, webhook_attempts
from pipeline.domain.consents import giving
from pipeline.domain.consents.giving import Terms
from pipeline.domain.revocation import derived, revoke
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.errors import Expired, NotFound, StorageFull, Unavailable
from tests.support.fake_service import Crash, FakeService, reference_recording
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.switch import Switch
from tests.support.saved_voices import assert_complete, complete_revocations, stored_voice


def versioned() -> FakeService:
    """Return a service with versions in the bucket of the voices."""
    fakes = FakeService()
    fakes.voices = FakeBucket(fakes.time, has_versions=True)
    fakes.resources = replace(fakes.resources, voices=fakes.voices)
    return fakes


async def preview(fakes: FakeService, source: Source, reference_id: str, *responses: str) -> Request:
    request = Request(
        job_id=fakes.resources.new_id(),
        kind="preview",
        source=source,
        reference_id=reference_id,
        text="Hello.",
        created_at=fakes.time(),
    )
    await acceptance.accept(fakes.resources, request, responses=responses)
    return request


async def used_voice(fakes: FakeService, name: str = "Nova") -> list[Request]:
    """Save a voice with everything that can be made from it. Return its jobs: the last one is open."""
    resources = fakes.resources
    session_id = await fakes.session()
    response = layout.idempotency(fakes.time(), session_id)
    await fakes.bucket.put(response, session_id.encode(), JSON)
    terms = Terms("Ann Person", ["reading"])
    consent, _ = await giving.prepare(resources, None, Source(session_id=session_id), terms, "English")
    await giving.give(resources, None, consent.consent_id, encoded(reference_recording()))
    early = await preview(fakes, Source(session_id=session_id), session_id, response)
    saved = await voice_changes.save(resources, None, session_id, name)
    await voice_renaming.rename(resources, None, saved.voice_id, description="calm")
    answer = layout.idempotency(fakes.time(), f"{session_id}-saved")
    await derived.mark_response(resources, session_id, answer)
    await fakes.bucket.put(answer, saved.to_json(), JSON)
    source = Source(voice_id=saved.voice_id)
    made = [early, await preview(fakes, source, session_id), await preview(fakes, source, session_id)]
    for request in made[:2]:
        await fakes.succeed(request)
        await webhook_attempts.enqueue(resources, request.job_id, None, "https://example.com/")
    for request in made:
        subscriber = Subscriber(reply_to=ReplyTo(endpoint="http://here", connection_id="c"))
        await fakes.bucket.put(layout.subscriber(request.job_id, "c"), subscriber.to_json(), JSON)
    return made


def traces(fakes: FakeService, made: list[Request]) -> list[str]:
    """Return the keys of all objects and versions that name a reference or its jobs, other than evidence."""
    ids = {made[0].reference_id.encode(), *(request.job_id.encode() for request in made)}
    found = set[str]()
    for bucket in (fakes.bucket, fakes.voices):
        for key, versions in bucket.versions.items():
            contents = [key.encode(), *(stored.body for stored in versions.values() if stored)]
            if any(id_ in content for id_ in ids for content in contents):
                found.add(key)
    return sorted(
        key for key in found if not key.startswith((layout.REVOCATIONS, layout.CHANGES, layout.AUDIT_PENDING))
    )


def remaining_keys(certificate: Certificate) -> list[str]:
    return sorted(one.key for one in certificate.remaining if one.key)


async def only_certificate(fakes: FakeService) -> Certificate:
    (key,) = fakes.voice_keys(layout.REVOCATIONS)
    return await revoke.get(fakes.resources, None, layout.id_in(key, layout.REVOCATIONS))


async def test_nothing_remains_of_voice() -> None:
    fakes = versioned()
    made = await used_voice(fakes)
    stored = traces(fakes, made)
    certificate = await revoke_voice(fakes.resources, None, "nova", "deleted")
    assert traces(fakes, made) == sorted(
        [layout.outcome(made[2].job_id), layout.subscriber(made[2].job_id, "c"), *fakes.keys(layout.DERIVED)]
    )
    assert certificate.completed_at is None
    await complete_revocations(fakes)
    certificate = await only_certificate(fakes)
    assert traces(fakes, made) == remaining_keys(certificate) == [layout.outcome(made[2].job_id)]
    removed = {one.key for one in certificate.removed}
    assert removed >= set(stored)
    assert not removed & {*fakes.bucket.versions, *fakes.voices.versions}
    assert all(one.removed_at for one in certificate.removed)
    assert certificate.completed_at == fakes.time()
    assert fakes.keys(layout.CHANGES) == []


async def test_certificate_kinds_and_versions() -> None:
    fakes = versioned()
    await used_voice(fakes)
    await revoke_voice(fakes.resources, None, "nova", "consent_revoked")
    await complete_revocations(fakes)
    certificate = await only_certificate(fakes)
    assert (certificate.voice_id, certificate.reason) == ("nova", "consent_revoked")
    assert {one.kind for one in certificate.removed} == {
        "upload",
        "preview",
        "job",
        "webhook_attempt",
        "stored_response",
        "job_marker",
        "recording",
        "transcription",
        "prompt",
        "consent",
        "metadata",
    }
    # Saving, ready, renamed, and deleting.
    assert [one.versions for one in certificate.removed if one.kind == "metadata"] == [4]


class StoresRequest(Switch):
    """Stores an object before a call of the storage, such as the request of a job whose marker is stored."""

    def __init__(self, fakes: FakeService, key: str, before_call: int) -> None:
        super().__init__()
        self._bucket = fakes.bucket
        self._key, self._object = key, fakes.bucket.objects.pop(key)
        self._before_call = before_call

    async def passed(self, call: str) -> None:
        await super().passed(call)
        if len(self.calls) == self._before_call:
            self._bucket.objects[self._key] = self._object


async def test_job_accepted_during_revocation_ends() -> None:
    calls, number = 1, 0
    while number < calls:
        number += 1
        fakes = FakeService()
        made = await used_voice(fakes)
        late = await preview(fakes, Source(voice_id="nova"), made[0].reference_id)
        switch = StoresRequest(fakes, layout.request(late.job_id), number)
        fakes.bucket.switch = fakes.voices.switch = switch
        await revoke_voice(fakes.resources, None, "nova", "deleted")
        calls = len(switch.calls)
        fakes.recover()
        await complete_revocations(fakes)
        outcome = await jobs.read_outcome(fakes.resources, late.job_id)
        assert isinstance(outcome, Failed), f"stored before call {number}"
        assert outcome.code == "voice_deleted"
        assert layout.request(late.job_id) not in fakes.bucket.objects
    assert calls > 40


async def test_open_jobs_end() -> None:
    fakes = FakeService()
    *ended, waiting = await used_voice(fakes)
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    job = await jobs.read(fakes.resources, None, waiting.job_id)
    assert isinstance(job.outcome, Failed)
    assert (job.outcome.code, job.outcome.message) == (
        "voice_deleted",
        "The voice was deleted. Its jobs have ended.",
    )
    for request in ended:
        with pytest.raises(NotFound):
            await jobs.read(fakes.resources, None, request.job_id)


async def test_other_voices_are_kept() -> None:
    fakes = versioned()
    await used_voice(fakes)
    others = await used_voice(fakes, "Ann")
    before = traces(fakes, others)
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    await complete_revocations(fakes)
    assert traces(fakes, others) == before


async def test_second_voice_of_recording_is_named() -> None:
    fakes = versioned()
    made = await used_voice(fakes)
    await voice_changes.save(fakes.resources, None, made[0].reference_id, "Nova again")
    other = await preview(fakes, Source(voice_id="nova-again"), made[0].reference_id)
    certificate = await revoke_voice(fakes.resources, None, "nova", "deleted")
    assert "audio/voices/nova-again/" in remaining_keys(certificate)
    assert (await voices.get(fakes.resources, None, "nova-again")).is_ready
    assert (await jobs.read(fakes.resources, None, other.job_id)).status == "queued"


async def test_objects_of_requests_in_progress_are_removed() -> None:
    fakes = versioned()
    made = await used_voice(fakes)
    folder = layout.voice_files(stored_voice(fakes, "nova"))
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    late = await preview(fakes, Source(voice_id="nova"), made[0].reference_id)
    await fakes.bucket.put(layout.preview(late.job_id), b"RIFF", WAV)
    await fakes.voices.put(folder.embedding, b"{}", JSON)
    fakes.advance(seconds=1)
    await revoke.finish_revocations(fakes.resources)
    assert layout.preview(late.job_id) not in fakes.bucket.objects
    await complete_revocations(fakes)
    assert traces(fakes, [*made, late]) == sorted(layout.outcome(one.job_id) for one in (made[2], late))


async def test_name_used_again_at_once() -> None:
    fakes = versioned()
    made = await used_voice(fakes)
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    session_id = await fakes.session("Another person.")
    await voice_changes.save(fakes.resources, None, session_id, "Nova")
    await complete_revocations(fakes)
    assert_complete(fakes, "nova", session_id)
    assert traces(fakes, made) == [layout.outcome(made[2].job_id)]


async def test_crash_is_completed_by_sweep() -> None:
    steps = 0
    while True:
        fakes = versioned()
        made = await used_voice(fakes)
        before = traces(fakes, made)
        fakes.fail_after(steps)
        try:
            await revoke_voice(fakes.resources, None, "nova", "deleted")
        except Crash:
            fakes.recover()
        else:
            break
        if fakes.keys(layout.CHANGES):
            fakes.advance(seconds=1)
            await revoke.finish_revocations(fakes.resources)
            await complete_revocations(fakes)
            certificate = await only_certificate(fakes)
            assert traces(fakes, made) == remaining_keys(certificate)
            assert {one.key for one in certificate.removed} >= set(before)
        else:
            assert traces(fakes, made) == before
        steps += 1
    assert steps > 40


@pytest.mark.parametrize("is_last", [False, True])
async def test_crash_of_sweep(is_last: bool) -> None:
    steps = 0
    while True:
        fakes = versioned()
        made = await used_voice(fakes)
        await revoke_voice(fakes.resources, None, "nova", "deleted")
        if is_last:
            fakes.advance(seconds=revoke.SETTLE_TIME.total_seconds())
        fakes.fail_after(steps)
        try:
            await revoke.finish_revocations(fakes.resources)
        except Crash:
            fakes.recover()
        else:
            break
        await complete_revocations(fakes)
        certificate = await only_certificate(fakes)
        assert traces(fakes, made) == remaining_keys(certificate)
        assert certificate.completed_at
        assert fakes.keys(layout.CHANGES) == []
        steps += 1
    assert steps > 15


async def test_rename_during_revocation() -> None:
    fakes = versioned()
    made = await used_voice(fakes)
    renaming = voice_renaming.rename(fakes.resources, None, "nova", description="loud")
    results = await asyncio.gather(
        revoke_voice(fakes.resources, None, "nova", "deleted"), renaming, return_exceptions=True
    )
    assert isinstance(results[0], Certificate)
    await complete_revocations(fakes)
    assert traces(fakes, made) == [layout.outcome(made[2].job_id)]


async def test_revocation_with_full_storage() -> None:
    fakes = FakeService()
    made = await used_voice(fakes)

    async def full(*_: object, **__: object) -> str:
        raise StorageFull("full")

    bucket = FakeBucket(fakes.time)
    bucket.objects, bucket.versions = fakes.bucket.objects, fakes.bucket.versions
    bucket.put_once = full  # type: ignore[method-assign]
    full_storage = replace(fakes.resources, bucket=bucket)
    await revoke_voice(full_storage, None, "nova", "deleted")
    assert fakes.voice_keys() == []
    assert [made[2].job_id] == [
        layout.id_in(key, layout.JOBS) for key in fakes.keys(layout.JOBS) if "request" in key
    ]
    fakes.advance(seconds=revoke.SETTLE_TIME.total_seconds())
    with pytest.raises(StorageFull):
        await revoke.finish_revocations(full_storage)
    await complete_revocations(fakes)
    assert fakes.keys(layout.JOBS) == [layout.outcome(made[2].job_id)]


async def test_certificate_of_other_owner() -> None:
    fakes = FakeService()
    resources = fakes.resources
    with pytest.raises(NotFound, match="no revocation"):
        await revoke.get(resources, "bob", new_id(resources.new_id, "alice"))
    with pytest.raises(NotFound, match="no revocation"):
        await revoke.get(resources, None, "nonsense")


async def test_retried_job_is_marked_again() -> None:
    fakes = versioned()
    made = await used_voice(fakes)
    key = layout.derived_job(made[2].reference_id, made[2].job_id)
    await fakes.bucket.delete([key])
    assert await acceptance.send_again(fakes.resources, made[2].job_id)
    assert key in fakes.bucket.objects


async def test_use_before_revocation_is_recorded() -> None:
    fakes = versioned()
    made = await used_voice(fakes)
    await revoke_voice(fakes.resources, None, "nova", "consent_revoked")
    await append_all_pending(fakes.resources)
    found = [json.loads(line) for item in fakes.audit.objects.values() for line in item.body.splitlines()]
    assert {one["job_id"] for one in found if one["action"] == "used"} == {one.job_id for one in made[:2]}
    assert [one["action"] for one in found if one.get("voice_id") == "nova"].count("revoked") == 1


class RevokedMeanwhile(Switch):
    """Deletes the voice "nova" before the first claim of another save."""

    def __init__(self, fakes: FakeService) -> None:
        super().__init__()
        self._fakes = fakes

    async def passed(self, call: str) -> None:
        await super().passed(call)
        if call == "list_folders":
            self._fakes.voices.switch = Switch()
            await revoke_voice(self._fakes.resources, None, "nova", "deleted")


async def test_save_during_revocation_is_refused() -> None:
    fakes = versioned()
    session_id = await fakes.session()
    await voice_changes.save(fakes.resources, None, session_id, "Nova")
    fakes.voices.switch = RevokedMeanwhile(fakes)
    with pytest.raises(Expired):
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
    await complete_revocations(fakes)
    assert fakes.voice_keys(layout.VOICES) == []


async def test_audio_of_withdrawn_job_is_deleted() -> None:
    fakes = versioned()
    session_id = await fakes.session()
    fakes.synthesis.switch.is_up = False
    with pytest.raises(Unavailable):
        await preview(fakes, Source(session_id=session_id), session_id)
    (marker,) = fakes.keys(layout.DERIVED)
    audio = layout.preview(layout.job_id_of_derived(marker))
    # A worker has received the message, although the response was lost.
    await fakes.bucket.put(audio, b"RIFF", WAV)
    fakes.synthesis.switch.is_up = True
    await voice_changes.save(fakes.resources, None, session_id, "Nova")
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    await complete_revocations(fakes)
    assert fakes.keys(layout.PREVIEWS) == []
    assert fakes.keys(layout.DERIVED) == []


async def test_deletion_records_save_whose_entry_was_delayed() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.bucket.switch = _RefusesEntries()
    await voice_changes.save(fakes.resources, None, session_id, "Nova")
    fakes.bucket.switch = Switch()
    fakes.advance(seconds=1)
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    fakes.advance(seconds=voice_changes.CHANGE_TIMEOUT.total_seconds())
    await voice_changes.finish_changes(fakes.resources)
    await append_all_pending(fakes.resources)
    entries = [line.entry() async for line in lines(fakes.resources, layout.audit_chain(None))]
    assert [(one.action, one.voice_id) for one in entries if one] == [("saved", "nova"), ("deleted", "nova")]


class _RefusesEntries(Switch):
    """Refuses the writes after the record of the change: those of audit entries."""

    async def passed(self, call: str) -> None:
        await super().passed(call)
        if call == "put" and self.count("put") > 1:
            raise Unavailable("simulated")
