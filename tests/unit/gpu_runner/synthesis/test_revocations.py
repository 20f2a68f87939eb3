"""Jobs and prompts of voices that are deleted while a worker uses them."""

import gc
from datetime import timedelta

from gpu_runner.synthesis.prompt_store import Voice
from gpu_runner.synthesis.revocations import Revocations
from pipeline.contract import layout
from pipeline.contract.records import Request, Source
from pipeline.domain import acceptance
from pipeline.domain.revocation import revoke
from pipeline.domain.revocation.revoke import revoke_voice
from tests.support.engines import ScriptedEngine
from tests.support.fakes.resources import Fakes
from tests.support.fakes.switch import Switch
from tests.support.job_requests import failure_of, make_request, store_voice, submit_voice_job, success_of
from tests.support.waiting import until
from tests.support.workers import fake_time_worker

SECONDS = 5


async def test_running_job_ends_within_five_seconds(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    reference_id = await store_voice(fakes.resources, "nova")
    request = await submit_voice_job(fakes.resources, "nova", reference_id)
    async with fake_time_worker(fakes, engine):
        await until(lambda: engine.active)
        await revoke_voice(fakes.resources, None, "nova", "deleted")
        await fakes.time.advance(SECONDS)
        await until(lambda: not engine.active)
        engine.paused = False
    assert (await failure_of(fakes.resources, request)).code == "voice_deleted"
    assert layout.preview(request.job_id) not in fakes.bucket.objects


async def test_duplicate_of_ended_job_does_not_end_it_again(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    reference_id = await store_voice(fakes.resources, "nova")
    request = await submit_voice_job(fakes.resources, "nova", reference_id)
    async with fake_time_worker(fakes, engine) as worker:
        await worker.until_ended(request.job_id)
        engine.paused = True
        await fakes.time.advance(1)  # the first message is deleted
        await acceptance.enqueue(fakes.resources, request.job_id)
        await until(lambda: engine.active)
        await revoke_voice(fakes.resources, None, "nova", "deleted")
        await fakes.time.advance(SECONDS)
        await until(lambda: not engine.active)
        await fakes.time.advance(1)
        await until(lambda: not fakes.synthesis.bodies)
    assert layout.outcome(request.job_id) not in fakes.bucket.objects


async def test_job_accepted_during_revocation_ends(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    reference_id = await store_voice(fakes.resources, "nova")
    async with fake_time_worker(fakes, engine) as worker:
        first = await submit_voice_job(fakes.resources, "nova", reference_id)
        await worker.until_ended(first.job_id)
        await revoke_voice(fakes.resources, None, "nova", "deleted")
        await fakes.time.advance(SECONDS)
        late = await submit_voice_job(fakes.resources, "nova", reference_id)
        await worker.until_ended(late.job_id)
    assert (await failure_of(fakes.resources, late)).code == "voice_deleted"


async def test_running_job_of_unmarked_request_ends(fakes: Fakes) -> None:
    engine = ScriptedEngine()
    engine.paused = True
    reference_id = await store_voice(fakes.resources, "nova")
    request = await submit_voice_job(fakes.resources, "nova", reference_id)
    await fakes.bucket.delete([layout.derived_job(reference_id, request.job_id)])
    async with fake_time_worker(fakes, engine) as worker:
        await until(lambda: engine.active)
        await revoke_voice(fakes.resources, None, "nova", "deleted")
        await fakes.time.advance(SECONDS)
        engine.paused = False
        await worker.until_ended(request.job_id)
    assert (await failure_of(fakes.resources, request)).code == "voice_deleted"
    assert layout.preview(request.job_id) not in fakes.bucket.objects


def voices_in_memory() -> list[Voice]:
    gc.collect()
    return [found for found in gc.get_objects() if isinstance(found, Voice)]


async def test_cached_prompt_is_dropped(fakes: Fakes) -> None:
    before = voices_in_memory()  # the list keeps those of other tests
    engine = ScriptedEngine()
    reference_id = await store_voice(fakes.resources, "nova")
    other_id = await store_voice(fakes.resources, "ann")
    async with fake_time_worker(fakes, engine) as worker:
        for voice_id, reference in (("nova", reference_id), ("ann", other_id)):
            request = await submit_voice_job(fakes.resources, voice_id, reference)
            await worker.until_ended(request.job_id)
        assert engine.prompts_made == 2
        await revoke_voice(fakes.resources, None, "nova", "deleted")
        await fakes.time.advance(SECONDS)
        again = await submit_voice_job(fakes.resources, "ann", other_id)
        await worker.until_ended(again.job_id)
        await until(lambda: len(voices_in_memory()) == len(before) + 1)  # the last job may still hold its voice
    assert await success_of(fakes.resources, again)
    assert engine.prompts_made == 2


async def test_revocations_are_forgotten(fakes: Fakes) -> None:
    await store_voice(fakes.resources, "nova")
    certificate = await revoke_voice(fakes.resources, None, "nova", "deleted")
    revocations = Revocations(fakes.resources)
    await revocations.poll()
    assert all(map(revocations.covers, certificate.folders))
    fakes.time.now += timedelta(hours=2)
    await revocations.poll()
    assert not any(map(revocations.covers, certificate.folders))


class DeletesVoice(Switch):
    """Deletes a voice just before its prompt is stored."""

    def __init__(self, fakes: Fakes) -> None:
        super().__init__()
        self._fakes = fakes

    async def passed(self, call: str) -> None:
        await super().passed(call)
        if call == "put":
            self._fakes.voices.switch = Switch()
            await revoke_voice(self._fakes.resources, None, "nova", "deleted")


async def test_prompt_stored_after_deletion_is_deleted(fakes: Fakes) -> None:
    reference_id = await store_voice(fakes.resources, "nova")
    request = make_request(fakes.resources, Source(voice_id="nova"), reference_id, kind="embedding")
    await acceptance.accept(fakes.resources, request)
    fakes.voices.switch = DeletesVoice(fakes)
    async with fake_time_worker(fakes, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
        await until(lambda: fakes.voices.switch.count("delete_versions") > 2)
    assert layout.voice(None, "nova").embedding not in fakes.voices.objects


async def test_audio_of_ended_job_is_deleted(fakes: Fakes) -> None:
    reference_id = await store_voice(fakes.resources, "nova")
    request = await submit_voice_job(fakes.resources, "nova", reference_id)
    await _revoke_unseen(fakes, request)
    async with fake_time_worker(fakes, ScriptedEngine()):
        await until(lambda: fakes.bucket.switch.calls[-1:] == ["delete"])
    assert (await failure_of(fakes.resources, request)).code == "voice_deleted"
    assert layout.preview(request.job_id) not in fakes.bucket.objects


async def _revoke_unseen(fakes: Fakes, request: Request) -> None:
    """End a job by a revocation that the worker has not read yet."""
    audio = layout.voice(None, "nova").audio
    wav = fakes.voices.objects[audio]
    certificate = await revoke_voice(fakes.resources, None, "nova", "deleted")
    fakes.voices.objects[audio] = wav
    assert await revoke.get(fakes.resources, None, certificate.revocation_id)
    assert layout.outcome(request.job_id) in fakes.bucket.objects
