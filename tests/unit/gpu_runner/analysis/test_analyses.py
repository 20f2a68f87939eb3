"""Checks of references and similarities of speakers in the worker."""

import asyncio

import pytest

from pipeline.contract import layout
from pipeline.contract.records import JobAnalysis, ReferenceCheck, Request, Source, Succeeded
from pipeline.domain import acceptance, reference_checks
from pipeline.settings import Settings
from tests.support.analysis import NOISE, ScriptedAnalysis
from tests.support.engines import ScriptedEngine
from tests.support.fakes.resources import Fakes, make_fakes
from tests.support.job_requests import (
    make_request,
    store_upload,
    store_voice,
    submit_session_job,
    submit_upload_job,
    submit_voice_job,
    success_of,
)
from tests.support.waiting import until
from tests.support.workers import fake_time_worker


async def checked(fakes: Fakes, analysis: ScriptedAnalysis | None) -> tuple[Request, Succeeded]:
    """Return the request and the outcome of a job that checks an upload."""
    session_id = await store_upload(fakes.resources)
    request = make_request(fakes.resources, Source(session_id=session_id), session_id, kind="check")
    await acceptance.accept(fakes.resources, request)
    async with fake_time_worker(fakes, ScriptedEngine(), analysis) as worker:
        await worker.until_ended(request.job_id)
    return request, await success_of(fakes.resources, request)


async def test_check_job_returns_warnings(fakes: Fakes) -> None:
    request, outcome = await checked(fakes, ScriptedAnalysis())
    assert outcome.preview is None
    assert outcome.reference_check == ReferenceCheck(warnings=(NOISE,))
    assert await reference_checks.of_session(fakes.resources, request.reference_id) == outcome.reference_check


@pytest.mark.parametrize("fails", [True, False])
async def test_check_without_analysis_is_unavailable(fakes: Fakes, fails: bool) -> None:
    _, outcome = await checked(fakes, ScriptedAnalysis(fails=True) if fails else None)
    assert outcome.reference_check is not None
    assert outcome.reference_check.warnings == ()
    assert "speakers" in outcome.reference_check.unavailable


async def later(fakes: Fakes, job_id: str) -> JobAnalysis:
    await until(lambda: layout.analysis(job_id) in fakes.bucket.objects)
    analysis = await reference_checks.of_job(fakes.resources, job_id)
    assert analysis is not None
    return analysis


async def test_outcome_does_not_wait_for_analysis(fakes: Fakes) -> None:
    analysis = ScriptedAnalysis()
    analysis.released.clear()
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, ScriptedEngine(), analysis) as worker:
        await worker.until_ended(request.job_id)
        outcome = await success_of(fakes.resources, request)
        assert (outcome.reference_check, outcome.speaker_similarity) == (None, None)
        analysis.released.set()
        found = await later(fakes, request.job_id)
    assert found == JobAnalysis(reference_check=ReferenceCheck(warnings=(NOISE,)), speaker_similarity=0.877)


async def test_reference_is_analysed_once(fakes: Fakes) -> None:
    analysis = ScriptedAnalysis()
    first = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, ScriptedEngine(), analysis) as worker:
        await until(lambda: "similarity_to" in analysis.calls)
        second = await submit_session_job(fakes.resources, first.reference_id)
        await worker.until_ended(first.job_id, second.job_id)
        await until(lambda: analysis.calls.count("similarity_to") == 2)
    assert sorted(analysis.calls) == ["check_wav", "embed_wav", "similarity_to", "similarity_to"]


async def test_saved_voice_has_similarity_only(fakes: Fakes) -> None:
    reference_id = await store_voice(fakes.resources, "nova")
    request = await submit_voice_job(fakes.resources, "nova", reference_id)
    analysis = ScriptedAnalysis()
    analysis.released.clear()
    async with fake_time_worker(fakes, ScriptedEngine(), analysis) as worker:
        await worker.until_ended(request.job_id)
        analysis.released.set()
        assert await later(fakes, request.job_id) == JobAnalysis(speaker_similarity=0.877)


async def test_failed_analysis_does_not_fail_preview(fakes: Fakes) -> None:
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, ScriptedEngine(), ScriptedAnalysis(fails=True)) as worker:
        await worker.until_ended(request.job_id)
        outcome = await success_of(fakes.resources, request)
    assert outcome.preview is not None
    assert outcome.speaker_similarity is None


async def test_preview_is_not_analysed_if_off() -> None:
    fakes, analysis = make_fakes(Settings(tts_backend="mock", quality="off")), ScriptedAnalysis()
    request = await submit_upload_job(fakes.resources)
    async with fake_time_worker(fakes, ScriptedEngine(), analysis) as worker:
        await worker.until_ended(request.job_id)
        await asyncio.sleep(0)
    assert analysis.calls == []
