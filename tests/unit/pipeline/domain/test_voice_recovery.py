"""Saves and deletions of voices that are interrupted, concurrent, or made while the storage fails."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest

from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import VoiceMetadata
from pipeline.domain import jobs, voice_changes, voice_claims, voices
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.errors import NameTaken, NotFound, StorageFull, Unavailable
from tests.support.fake_service import PROMPT, Crash, FakeService
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.switch import Switch
from tests.support.saved_voices import assert_complete, complete_revocations, keys_of_voice, stored_voice

TIMEOUT = voice_changes.CHANGE_TIMEOUT


@pytest.mark.parametrize("embedded", [True, False])
async def test_interrupted_save_is_retried(embedded: bool) -> None:
    steps = 0
    while True:
        fakes = FakeService()
        session_id = await fakes.session(embedded=embedded)
        fuse = fakes.fail_after(steps)
        try:
            await voice_changes.save(fakes.resources, None, session_id, "Nova")
        except Crash:
            fakes.recover()
        else:
            break
        is_ready = "nova" in [v.voice_id for v in (await voices.page(fakes.resources, None, limit=9)).voices]
        if not is_ready:
            await voice_changes.save(fakes.resources, None, session_id, "Nova")
        fakes.advance(seconds=TIMEOUT.total_seconds())
        await voice_changes.finish_changes(fakes.resources)
        assert len(fakes.keys(layout.AUDIT_PENDING)) == 1, f"entries of the audit log after {fuse.seen}"
        if not embedded:
            assert fakes.synthesis.bodies, f"no embedding asked for after {fuse.seen}"
            await fakes.voices.put(layout.voice_files(stored_voice(fakes, "nova")).embedding, PROMPT, JSON)
        assert_complete(fakes, "nova", session_id)
        steps += 1
    assert steps >= 8


class LosesResponses(FakeBucket):
    """Loses the response to the first attempt of each `put_once`. The second attempt finds its object."""

    async def put_once(
        self, key: str, body: bytes, content_type: str, *, metadata: Mapping[str, str] | None = None
    ) -> str | None:
        await super().put_once(key, body, content_type, metadata=metadata)
        return None


@pytest.mark.parametrize("bucket", [FakeBucket, LosesResponses])
async def test_interrupted_save_is_swept(bucket: type[FakeBucket]) -> None:
    steps = 0
    while True:
        fakes = FakeService()
        fakes.voices = bucket(fakes.time)
        fakes.resources = replace(fakes.resources, voices=fakes.voices)
        session_id = await fakes.session()
        fakes.fail_after(steps)
        try:
            await voice_changes.save(fakes.resources, None, session_id, "Nova")
        except Crash:
            fakes.recover()
        else:
            break
        fakes.advance(seconds=TIMEOUT.total_seconds())
        await voice_changes.finish_changes(fakes.resources)
        if fakes.voice_keys():
            assert_complete(fakes, "nova", session_id)
        else:
            other = await fakes.session("Someone else.")
            await voice_changes.save(fakes.resources, None, other, "Nova")
            assert_complete(fakes, "nova", other)
        assert fakes.keys(layout.CHANGES) == []
        steps += 1
    assert steps >= 8


async def test_interrupted_save_is_invisible() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.fail_after(11)
    with pytest.raises(Crash):
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
    fakes.recover()
    assert stored_voice(fakes, "nova").status == "saving"
    assert (await voices.page(fakes.resources, None, limit=10)).voices == []
    with pytest.raises(NotFound):
        await voices.get(fakes.resources, None, "nova")
    with pytest.raises(NotFound):
        await revoke_voice(fakes.resources, None, "nova", "deleted")
    with pytest.raises(NameTaken):
        await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")


async def test_sweep_waits_for_timeout() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.fail_after(11)
    with pytest.raises(Crash):
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
    fakes.recover()
    fakes.advance(seconds=TIMEOUT.total_seconds(), milliseconds=-1)
    assert await voice_changes.finish_changes(fakes.resources) == 0
    assert fakes.voice_keys()
    fakes.advance(milliseconds=1)
    assert await voice_changes.finish_changes(fakes.resources) == 1
    assert (fakes.voice_keys(), fakes.keys(layout.CHANGES)) == ([], [])


async def test_retried_save_restarts_timeout() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    for _ in range(2):
        fakes.fail_after(13)
        with pytest.raises(Crash):
            await voice_changes.save(fakes.resources, None, session_id, "Nova")
        fakes.recover()
        fakes.advance(seconds=TIMEOUT.total_seconds() / 2)
    fakes.advance(seconds=1)
    assert await voice_changes.finish_changes(fakes.resources) == 0
    assert stored_voice(fakes, "nova").status == "saving"


async def test_sweep_during_save() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    saving = asyncio.ensure_future(voice_changes.save(fakes.resources, None, session_id, "Nova"))
    for _ in range(16):
        await asyncio.sleep(0)
    assert stored_voice(fakes, "nova").status == "saving"
    fakes.advance(seconds=TIMEOUT.total_seconds())
    await voice_changes.finish_changes(fakes.resources)
    try:
        await saving
    except NameTaken:
        assert layout.voice(None, "nova").metadata not in fakes.voices.objects
    else:
        assert_complete(fakes, "nova", session_id)


@pytest.mark.parametrize("head_start", range(30))
async def test_concurrent_saves_of_one_name(head_start: int) -> None:
    fakes = FakeService()
    sessions_ = [await fakes.session("I am one."), await fakes.session("I am the other.")]

    async def after(turns: int, session_id: str) -> VoiceMetadata:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await voice_changes.save(fakes.resources, None, session_id, "Nova")

    results = await asyncio.gather(after(0, sessions_[0]), after(head_start, sessions_[1]), return_exceptions=True)
    winners = [
        session_id
        for session_id, result in zip(sessions_, results, strict=True)
        if not isinstance(result, BaseException)
    ]
    assert len(winners) == 1
    assert sum(isinstance(result, NameTaken) for result in results) == 1
    assert_complete(fakes, "nova", winners[0])


@pytest.mark.parametrize("head_start", range(30))
async def test_concurrent_retry_of_save(head_start: int) -> None:
    fakes = FakeService()
    session_id = await fakes.session()

    async def after(turns: int) -> VoiceMetadata:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await voice_changes.save(fakes.resources, None, session_id, "Nova")

    results = await asyncio.gather(after(0), after(head_start), return_exceptions=True)
    assert any(isinstance(result, VoiceMetadata) for result in results)
    assert all(isinstance(result, VoiceMetadata | NameTaken) for result in results)
    assert_complete(fakes, "nova", session_id)


async def test_save_with_lost_response() -> None:
    fakes = FakeService()
    session_id = await fakes.session()

    class LosesAnswers(Switch):
        async def passed(self, call: str) -> None:
            await super().passed(call)
            if call == "replace":
                # The client's retry finds the object that its first attempt has written.
                metadata = stored_voice(fakes, "nova")
                ready = metadata.model_copy(
                    update={
                        "status": "ready",
                        "transcription_file": layout.voice_files(metadata).transcription,
                        "duration_seconds": 2.0,
                        "sample_rate": 16_000,
                        "model": "mock",
                    }
                )
                fakes.voices._write(layout.voice(None, "nova").metadata, ready.to_json(), JSON)

    fakes.voices.switch = LosesAnswers()
    assert (await voice_changes.save(fakes.resources, None, session_id, "Nova")).status == "ready"
    assert_complete(fakes, "nova", session_id)


async def test_save_while_queue_unavailable() -> None:
    fakes = FakeService()
    session_id = await fakes.session(embedded=False)
    fakes.synthesis.switch.is_up = False
    assert (await voice_changes.save(fakes.resources, None, session_id, "Nova")).voice_id == "nova"
    fakes.synthesis.switch.is_up = True
    fakes.advance(seconds=TIMEOUT.total_seconds())
    assert await voice_changes.finish_changes(fakes.resources) == 1
    assert len(fakes.synthesis.bodies) == 1


async def test_save_while_storage_fails() -> None:
    for calls in range(2, 8):
        fakes = FakeService()
        session_id = await fakes.session()
        fakes.fail_after(calls, Unavailable)
        with pytest.raises(Unavailable):
            await voice_changes.save(fakes.resources, None, session_id, "Nova")
        fakes.recover()
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
        assert_complete(fakes, "nova", session_id)


async def test_late_embedding_of_deleted_voice() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(embedded=False), "Nova")
    message = parse_queue_message(fakes.synthesis.bodies[0])
    assert message is not None
    late = await jobs.read_request(fakes.resources, message.job_id)
    assert late is not None
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    session_id = await fakes.session(embedded=False)
    saved = await voice_changes.save(fakes.resources, None, session_id, "Nova")
    await fakes.voices.put(layout.reference(late).embedding, b"of the one before", JSON)
    assert saved.embedding_file not in fakes.voices.objects
    assert fakes.voice_keys() == sorted(
        [layout.reference(late).embedding, *keys_of_voice("nova", session_id, "source.wav", "transcription.txt")]
    )
    await revoke_voice(fakes.resources, None, "nova", "deleted")
    assert fakes.voice_keys() == []


async def interrupted_deletions() -> AsyncIterator[tuple[FakeService, str]]:
    """Yield a service after each step at which a deletion can be interrupted, and the session of the voice."""
    for steps in count():
        fakes = FakeService()
        session_id = await fakes.session()
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
        fakes.fail_after(steps)
        try:
            await revoke_voice(fakes.resources, None, "nova", "deleted")
        except Crash:
            fakes.recover()
            yield fakes, session_id
        else:
            assert steps >= 12
            return


async def test_interrupted_delete_is_swept() -> None:
    async for fakes, session_id in interrupted_deletions():
        is_announced = bool(fakes.keys(layout.CHANGES))
        await complete_revocations(fakes)
        if is_announced:
            assert fakes.voice_keys() == []
            await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
        else:
            assert_complete(fakes, "nova", session_id)
        assert fakes.keys(layout.CHANGES) == []


async def test_interrupted_delete_is_continued_by_repeat() -> None:
    continued = 0
    async for fakes, _ in interrupted_deletions():
        with suppress(NotFound):  # the voice was deleted before the interruption
            await revoke_voice(fakes.resources, None, "nova", "deleted")
            continued += 1
        assert fakes.voice_keys() == []
        await complete_revocations(fakes)
        assert fakes.keys(layout.CHANGES) == []
        assert len(fakes.keys(layout.AUDIT_PENDING)) == 2, "entries of the save and the deletion"
    assert continued >= 10


async def test_concurrent_deletes() -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    first, second = await asyncio.gather(
        *(revoke_voice(fakes.resources, None, "nova", "deleted") for _ in range(2))
    )
    assert first.revocation_id == second.revocation_id
    assert fakes.voice_keys() == []
    with pytest.raises(NotFound):
        await revoke_voice(fakes.resources, None, "nova", "deleted")


async def test_sweep_ignores_other_objects() -> None:
    fakes = FakeService()
    await fakes.bucket.put(layout.CHANGES + "README.txt", b"not a note", JSON)
    await fakes.bucket.put(layout.change(fakes.resources.new_id()), b'{"voice_id": "../.."}', JSON)
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    fakes.advance(seconds=TIMEOUT.total_seconds())
    assert await voice_changes.finish_changes(fakes.resources) == 1
    assert fakes.keys(layout.CHANGES) == [layout.CHANGES + "README.txt"]
    assert len(fakes.voice_keys()) == 4


def test_change_timeout() -> None:
    assert timedelta(minutes=1) < TIMEOUT


async def test_name_of_failed_save_is_free_after_a_minute() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.voices.switch = _FailsDeletions()
    with pytest.raises(StorageFull):
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
    assert stored_voice(fakes, "nova").status == "deleting"
    fakes.recover()
    with pytest.raises(Unavailable, match="Try again in 60 seconds") as refused:
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
    assert refused.value.retry_after == 60
    fakes.advance(seconds=60)
    await voice_changes.save(fakes.resources, None, session_id, "Nova")
    assert_complete(fakes, "nova", session_id)


async def test_sweep_leaves_voice_saved_while_it_reads_the_failed_save() -> None:
    fakes = FakeService()
    session_id = await fakes.session()
    fakes.voices.switch = _FailsDeletions()
    with pytest.raises(StorageFull):
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
    fakes.recover()
    fakes.advance(seconds=TIMEOUT.total_seconds())
    saving = _SavesAfterRead(fakes, session_id)
    fakes.voices.switch = saving
    await voice_changes.finish_changes(fakes.resources)
    assert saving.has_saved
    assert_complete(fakes, "nova", session_id)


class _DelaysFirstWrite(FakeBucket):
    """Fails the first write, and keeps it for a test that makes it later."""

    delayed: tuple[str, bytes, str] | None = None

    async def put(self, key: str, body: bytes, content_type: str) -> None:
        if self.delayed is None:
            self.delayed = key, body, content_type
            raise Unavailable("simulated")
        await super().put(key, body, content_type)


@pytest.mark.parametrize("saved_meanwhile", [False, True])
async def test_file_written_after_its_claim_was_deleted_is_swept(saved_meanwhile: bool) -> None:
    fakes = FakeService()
    fakes.voices = bucket = _DelaysFirstWrite(fakes.time)
    fakes.resources = replace(fakes.resources, voices=bucket)
    session_id = await fakes.session()
    with pytest.raises(Unavailable):
        await voice_changes.save(fakes.resources, None, session_id, "Nova")
    claimed, etag = await voices.read(fakes.resources, None, "nova")
    assert claimed is not None
    (change_key,) = fakes.keys(layout.CHANGES)
    await voice_claims.abandon(fakes.resources, None, voice_claims.Claim(claimed, etag, "another"))
    assert bucket.delayed is not None
    await bucket.put(*bucket.delayed)
    fakes.advance(seconds=TIMEOUT.total_seconds())
    if saved_meanwhile:
        bucket.switch = _SavesAfterRead(fakes, session_id)
        assert await voice_changes.finish_changes(fakes.resources) == 0
        assert_complete(fakes, "nova", session_id)
        assert fakes.keys(layout.CHANGES) == [change_key]
    assert await voice_changes.finish_changes(fakes.resources) == 1
    assert fakes.keys(layout.CHANGES) == []
    if saved_meanwhile:
        assert_complete(fakes, "nova", session_id)
    else:
        assert fakes.voice_keys() == []


class _FailsDeletions(Switch):
    """The storage is full, and does not delete."""

    async def passed(self, call: str) -> None:
        await super().passed(call)
        if call == "put":
            raise StorageFull("full")
        if call.startswith(("delete", "list_versions")):
            raise Unavailable("simulated")


class _SavesAfterRead(Switch):
    """Saves the voice again before the first call that follows the first read."""

    def __init__(self, fakes: FakeService, session_id: str) -> None:
        super().__init__()
        self._fakes = fakes
        self._session_id = session_id
        self.has_saved = False

    async def passed(self, call: str) -> None:
        await super().passed(call)
        if call != "read" and not self.has_saved:
            self.has_saved = True
            await voice_changes.save(self._fakes.resources, None, self._session_id, "Nova")
