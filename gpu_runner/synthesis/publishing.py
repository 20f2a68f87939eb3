"""From a job's result to its outcome: store the prompt and the WAV, then write `outcome.json`."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from gpu_runner.synthesis.audio_stream import AudioStream
from gpu_runner.synthesis.context import WorkerContext
from gpu_runner.synthesis.engine_loop import Speech
from gpu_runner.synthesis.prompt_store import Voice
from pipeline import tracing
from pipeline.audio import reference_audio
from pipeline.audio.reference_audio import Recording
from pipeline.audio.wav import WAV, length_of_wav
from pipeline.clients.resources import Resources
from pipeline.contract import layout, retention
from pipeline.contract.messages.completions import Completion
from pipeline.contract.records import (
    REPORT_METADATA,
    Failed,
    Outcome,
    Preview,
    Request,
    Succeeded,
    SynthesisReport,
    Timings,
    outcome_fields,
    report_of,
)
from pipeline.domain import jobs
from pipeline.errors import ConnectionGone, Unavailable

COMPLETION_TIMEOUT_SECONDS = 2.0

_WAV_HEADER = "bytes=0-255"
_REPORT_MAX_BYTES = 1900  # S3 takes 2 KB of metadata

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Synthesized:
    """A job that the engine has finished and that is not published yet."""

    request: Request
    voice: Voice
    speech: Speech | None
    """None if only the prompt was requested."""
    ended_at: datetime
    stream: AudioStream


@dataclass(frozen=True, slots=True)
class StoredPreview:
    """A WAV in the bucket, when it was written, and its report if it has one."""

    preview: Preview
    completed_at: datetime
    report: SynthesisReport | None
    body: bytes | None = field(default=None, repr=False)
    """The WAV data, if this process wrote it."""


@dataclass(frozen=True, slots=True)
class PreviouslySynthesized:
    """A job whose WAV an earlier attempt has stored without writing the outcome."""

    request: Request
    stored: StoredPreview


Result = Synthesized | PreviouslySynthesized | Failed


def is_late(request: Request, resources: Resources) -> bool:
    """Return whether the job is past its deadline."""
    return retention.job_deadline(request.job_id, resources.settings) <= resources.clock()


async def publish(context: WorkerContext, result: Result) -> None:
    """Write the results and then the outcome. Idempotent.

    Raises
    ------
    Unavailable
        The storage does not respond.
    """
    parent = result.traceparent if isinstance(result, Failed) else result.request.traceparent
    with tracing.span("store", parent=parent):
        await _publish(context, result)


async def _publish(context: WorkerContext, result: Result) -> None:
    resources, stored = context.resources, None
    if isinstance(result, Synthesized):
        await result.stream.close()
    if isinstance(result, Failed):
        outcome: Succeeded | Failed = result
    elif is_late(result.request, resources):
        outcome = jobs.past_deadline(result.request, resources)
    elif isinstance(result, PreviouslySynthesized):
        outcome = _success(result.request, result.stored)
    else:
        outcome, stored = await _store(context, result)
    written = await jobs.write_outcome(resources, outcome)
    _log_outcome(outcome, written=written)
    if written:
        await _send_completion(resources, outcome, stored.body if stored else None)


async def _send_completion(resources: Resources, outcome: Outcome, wav: bytes | None) -> None:
    """Send the result to a request that waits for it. If that fails, the outcome's event notifies it."""
    subscriber = outcome.subscriber
    if subscriber is None or subscriber.interface != "http":
        return
    completion = Completion(outcome, None if subscriber.stream else wav)
    try:
        async with asyncio.timeout(COMPLETION_TIMEOUT_SECONDS):
            await resources.connections.post(subscriber.reply_to, completion.to_bytes())
    except (ConnectionGone, Unavailable, TimeoutError) as error:
        log.debug("client not notified directly", reason=str(error) or "timeout")


async def _store(context: WorkerContext, result: Synthesized) -> tuple[Succeeded, StoredPreview | None]:
    storing = context.prompts.store(result.request, result.voice)
    if result.speech is None:
        await storing
        return Succeeded.model_validate(outcome_fields(result.request, context.resources.clock())), None
    stored, _ = await asyncio.gather(_store_audio(context, result, result.speech), storing)
    return _success(result.request, stored), stored


def _success(request: Request, stored: StoredPreview) -> Succeeded:
    facts = outcome_fields(request, stored.completed_at) | {"preview": stored.preview}
    if stored.report:
        facts |= dict(stored.report)
    return Succeeded.model_validate(facts)


async def _store_audio(context: WorkerContext, result: Synthesized, speech: Speech) -> StoredPreview:
    recording = Recording(speech.samples, context.sample_rate)
    report = SynthesisReport(
        timings=_timings(result, recording.duration_seconds),
        warnings=speech.warnings,
        finish_reason=speech.finish_reason,
    )
    body = await asyncio.to_thread(reference_audio.encode_wav, recording)
    completed_at = context.resources.clock()
    key = layout.preview(result.request.job_id)
    if await context.resources.bucket.put_once(key, body, WAV, metadata=_to_metadata(report)) is None:
        if (stored := await stored_preview(context.resources, key)) is None:
            raise Unavailable("The preview was deleted between two reads.")
        return stored
    preview = _preview(context.resources, key, completed_at, recording.sample_rate, recording.duration_seconds)
    return StoredPreview(preview, completed_at, report, body)


async def stored_preview(resources: Resources, key: str) -> StoredPreview | None:
    """Return the WAV that an earlier attempt has stored. None if there is none."""
    stored = await resources.bucket.read(key, range_=_WAV_HEADER)
    if stored is None:
        return None
    preview = _preview(resources, key, stored.last_modified, *length_of_wav(stored.body))
    return StoredPreview(preview, stored.last_modified, report_of(stored.metadata))


def _to_metadata(report: SynthesisReport) -> dict[str, str]:
    """Encode as ASCII of limited size, without the last warnings where they are too long."""
    text = json.dumps(report.model_dump(mode="json"))
    if len(text) > _REPORT_MAX_BYTES:
        return _to_metadata(report.model_copy(update={"warnings": report.warnings[:-1]}))
    return {REPORT_METADATA: text}


def _preview(resources: Resources, key: str, completed_at: datetime, sample_rate: int, seconds: float) -> Preview:
    return Preview(
        key=key,
        sample_rate=sample_rate,
        duration_seconds=round(seconds, 3),
        expires_at=retention.preview_expires_at(completed_at, resources.settings),
    )


def _timings(result: Synthesized, audio_seconds: float) -> Timings:
    seconds = result.speech.seconds if result.speech else 0.0
    created_at, first_audio_at = result.request.created_at, result.stream.first_audio_at
    waited = result.ended_at - timedelta(seconds=seconds) - created_at
    return Timings(
        queued_seconds=round(max(0.0, waited.total_seconds()), 3),
        synthesis_seconds=round(seconds, 3),
        real_time_factor=round(seconds / max(audio_seconds, 0.001), 4),
        first_audio_seconds=round((first_audio_at - created_at).total_seconds(), 3) if first_audio_at else None,
    )


def _log_outcome(outcome: Succeeded | Failed, *, written: bool) -> None:
    """Log one line about a job's end, with neither text nor audio."""
    facts: dict[str, object] = {"status": outcome.status, "kind": outcome.kind}
    if isinstance(outcome, Failed):
        facts["code"] = outcome.code
    elif outcome.preview is not None:
        facts["audio_seconds"] = outcome.preview.duration_seconds
        facts["finish_reason"] = outcome.finish_reason
        facts |= outcome.timings.model_dump() if outcome.timings else {}
    log.info("job ended" if written else "job had ended already", **facts)
