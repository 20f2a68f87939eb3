"""From a job's result to its outcome: store the prompt and the WAV, then write `outcome.json`."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from gpu_runner.analysis.analyses import PreviewAnalysis
from gpu_runner.streaming.audio_stream import AudioStream
from gpu_runner.synthesis.context import WorkerContext
from gpu_runner.synthesis.engine_loop import Speech
from gpu_runner.synthesis.prompt_store import Voice
from pipeline.access.audit.entries import sha256
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
    ReferenceCheck,
    Request,
    Succeeded,
    SynthesisReport,
    Timings,
    outcome_fields,
    report_of,
)
from pipeline.domain import jobs
from pipeline.domain.revocation.derived_objects import voice_deleted
from pipeline.errors import ConnectionGone, Unavailable
from pipeline.marking.manifest import Origin
from pipeline.provenance import fingerprints
from pipeline.telemetry import tracing

COMPLETION_TIMEOUT_SECONDS = 2.0

# Within this time, a revocation that began meanwhile still deletes what is stored, see `SETTLE_TIME`.
_SOON = timedelta(seconds=30)
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
    analysis: PreviewAnalysis | None


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


@dataclass(frozen=True, slots=True)
class Checked:
    """A reference or the recording of a consent that was checked, without synthesis."""

    request: Request
    check: ReferenceCheck | None = None
    """None for a consent, which contains its own check."""


Result = Synthesized | PreviouslySynthesized | Checked | Failed


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
    if isinstance(result, Synthesized):
        await result.stream.close()
    outcome, stored = await _outcome(context, result)
    if isinstance(outcome, Failed) and not await jobs.is_open(context.resources, outcome.job_id):
        log.info("job had ended already")
        return
    written = await jobs.write_outcome(context.resources, outcome, releases=False)
    _log_outcome(outcome, written=written)
    body = stored.body if stored else None
    releasing = jobs.release(context.resources, outcome)
    if written:
        await asyncio.gather(releasing, _send_completion(context.resources, outcome, body))
    else:
        await releasing
    if written or (stored is not None and await _keep_if_succeeded(context.resources, outcome)):
        await store_fingerprint(context.resources, outcome, body)


async def _outcome(context: WorkerContext, result: Result) -> tuple[Outcome, StoredPreview | None]:
    """Return the outcome, and the preview that was stored for it."""
    resources = context.resources
    if isinstance(result, Failed):
        return result, None
    if is_late(result.request, resources):
        return jobs.past_deadline(result.request, resources), None
    if context.revocations.covers(layout.reference(result.request).folder):
        return jobs.failure(result.request, voice_deleted(), resources.clock()), None
    if isinstance(result, Checked):
        facts = outcome_fields(result.request, resources.clock()) | {"reference_check": result.check}
        return Succeeded.model_validate(facts), None
    if isinstance(result, PreviouslySynthesized):
        return _success(result.request, result.stored), None
    return await _store(context, result)


async def store_fingerprint(resources: Resources, outcome: Outcome, body: bytes | None = None) -> None:
    """Store the fingerprint of a preview after its outcome, so that no client waits for it. Idempotent.

    `body` is its WAV, if it need not be read.
    """
    if resources.settings.mark == "off" or not isinstance(outcome, Succeeded) or outcome.preview is None:
        return
    body = body or await resources.bucket.get(outcome.preview.key)
    if body is None:  # it was deleted
        return
    recording = await asyncio.to_thread(reference_audio.decode_wav, body)
    await fingerprints.store(resources, outcome.source.owner, outcome.job_id, recording)
    if resources.clock() - outcome.completed_at > _SOON:  # the voice may have been deleted meanwhile
        await _keep_if_succeeded(resources, outcome)


async def _keep_if_succeeded(resources: Resources, outcome: Outcome) -> bool:
    """Delete the audio of a job that has not succeeded by any attempt, or was deleted. Return whether it stays."""
    job_id = outcome.job_id
    if isinstance(await jobs.read_outcome(resources, job_id), Succeeded):
        return True
    names = [item.key async for item in resources.bucket.list(layout.fingerprint(outcome.source.owner, job_id))]
    await resources.bucket.delete([layout.preview(job_id), *names])
    return False


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
    return _success(result.request, stored, result.analysis), stored


def _success(request: Request, stored: StoredPreview, analysis: PreviewAnalysis | None = None) -> Succeeded:
    facts = outcome_fields(request, stored.completed_at) | {"preview": stored.preview}
    if stored.report:
        facts |= dict(stored.report)
    if analysis:
        facts |= dict(analysis.publish())
    return Succeeded.model_validate(facts)


async def _store_audio(context: WorkerContext, result: Synthesized, speech: Speech) -> StoredPreview:
    recording = Recording(speech.samples, context.sample_rate)
    job_id, completed_at = result.request.job_id, context.resources.clock()
    sign = await context.manifests.signing(WAV)

    def encode() -> tuple[bytes, str]:
        signed = sign(reference_audio.encode_wav(recording), Origin(job_id, completed_at, context.model))
        return signed, sha256(signed)

    body, audio_sha256 = await asyncio.to_thread(encode)
    report = SynthesisReport(
        timings=_timings(result, recording.duration_seconds),
        warnings=speech.warnings,
        finish_reason=speech.finish_reason,
        audio_sha256=audio_sha256,
        take=result.stream.take,
        marks=context.marks,
    )
    key = layout.preview(job_id)
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
