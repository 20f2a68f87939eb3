"""One job's way through the worker: what it needs is fetched, it is spoken, and how it ended is written down."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from pydantic import ValidationError

from gpu_runner.engine_thread import EngineThread, Speech
from gpu_runner.engines import Utterance
from gpu_runner.prompts import Prompts, Voice
from pipeline.audio import reference_audio
from pipeline.audio.reference_audio import Recording
from pipeline.audio.wav import WAV, length_of_wav
from pipeline.clients.resources import Resources
from pipeline.contract import layout, retention
from pipeline.contract.records import Failed, Preview, Request, Succeeded, Timings, particulars
from pipeline.domain import jobs
from pipeline.errors import DeadlineExceeded, Expired, InvalidInput, NotFound, Unavailable

# What no further try can mend.
HOPELESS = (InvalidInput, NotFound, Expired, DeadlineExceeded)

_WAV_HEAD = "bytes=0-255"

log = structlog.get_logger(__name__)


class Unreadable(Exception):
    """The request is none that this version of the worker understands."""


@dataclass(frozen=True, slots=True)
class Bench:
    """All that a job is worked on with."""

    resources: Resources
    engine: EngineThread
    prompts: Prompts
    sample_rate: int


@dataclass(frozen=True, slots=True)
class Spoken:
    """A job that the engine is done with: what remains is to publish it."""

    request: Request
    voice: Voice
    speech: Speech | None
    """None when only the prompt was asked for."""
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class _Published:
    """Where the audio is, and since when."""

    preview: Preview
    completed_at: datetime
    by_us: bool


@dataclass(frozen=True, slots=True)
class SpokenBefore:
    """A job whose audio an earlier try wrote, before it died: only its outcome is missing."""

    request: Request
    published: _Published


Ended = Spoken | SpokenBefore | Failed


async def perform(bench: Bench, job_id: str, *, redelivered: bool) -> Ended | None:
    """Do all of a job but publish it; None when there is nothing to do.

    Raises
    ------
    Unavailable, Unreadable, Stopping, EngineFailed, EngineLost
        Another delivery may do better.
    """
    resources = bench.resources
    if redelivered and await jobs.read_outcome(resources, job_id) is not None:
        return None
    request = await _read_request(resources, job_id)
    if request is None:
        log.warning("job is unknown", job_id=job_id)
        return None
    structlog.contextvars.bind_contextvars(correlation_id=request.correlation_id)
    if is_late(request, resources):
        return jobs.past_deadline(request, resources)
    try:
        if redelivered and (published := await _published_before(resources, layout.preview(job_id))):
            return SpokenBefore(request, published)
        return await _speak(bench, request, redelivered=redelivered)
    except HOPELESS as error:
        return jobs.failure(request, error, resources.clock())


def is_late(request: Request, resources: Resources) -> bool:
    """Tell whether the job's time is over."""
    return retention.job_deadline(request.job_id, resources.settings) <= resources.clock()


async def _read_request(resources: Resources, job_id: str) -> Request | None:
    try:
        return await jobs.read_request(resources, job_id)
    except ValidationError as error:
        # The error itself quotes what it read, which must not be logged.
        raise Unreadable(f"{error.error_count()} fields of the request are not as this worker knows them") from None


async def _speak(bench: Bench, request: Request, *, redelivered: bool) -> Spoken:
    # A prompt can't have been stored yet for what came with this very request, unless by an earlier try.
    maybe_stored = request.new_reference is None or redelivered
    voice = await bench.prompts.of(request, maybe_stored=maybe_stored)
    speech = None
    if request.kind == "preview":
        utterance = Utterance(request.job_id, request.text, voice.prompt, request.options)
        speech = await _in_time(bench.engine.speak(utterance), request, bench.resources)
    return Spoken(request, voice, speech, bench.resources.clock())


async def _in_time(speaking: Awaitable[Speech], request: Request, resources: Resources) -> Speech:
    """Wait for the speech no longer than the job may take; then the engine gives it up."""
    left = retention.job_deadline(request.job_id, resources.settings) - resources.clock()
    try:
        async with asyncio.timeout(left.total_seconds()):
            return await speaking
    except TimeoutError:
        raise jobs.too_late(resources.settings) from None


async def publish(bench: Bench, ended: Ended) -> None:
    """Write the results and then the outcome; doing it twice does no harm.

    Raises
    ------
    Unavailable
        The storage does not answer.
    """
    resources = bench.resources
    if isinstance(ended, Failed):
        outcome: Succeeded | Failed = ended
    elif is_late(ended.request, resources):
        outcome = jobs.past_deadline(ended.request, resources)
    elif isinstance(ended, SpokenBefore):
        outcome = _success(ended.request, ended.published)
    else:
        outcome = await _succeed(bench, ended)
    stands = await jobs.conclude(resources, outcome)
    _report(outcome, stands=stands)


async def _succeed(bench: Bench, spoken: Spoken) -> Succeeded:
    storing = bench.prompts.store(spoken.request, spoken.voice)
    if spoken.speech is None:
        await storing
        return Succeeded.model_validate(particulars(spoken.request, bench.resources.clock()))
    published, _ = await asyncio.gather(_publish_audio(bench, spoken.request, spoken.speech), storing)
    if not published.by_us:
        return _success(spoken.request, published)
    timings = _timings(spoken, published.preview)
    return _success(spoken.request, published, timings=timings, warnings=spoken.speech.warnings)


def _success(request: Request, published: _Published, **more: object) -> Succeeded:
    shared = particulars(request, published.completed_at)
    return Succeeded.model_validate(shared | {"preview": published.preview} | more)


async def _publish_audio(bench: Bench, request: Request, speech: Speech) -> _Published:
    recording = Recording(speech.samples, bench.sample_rate)
    body = await asyncio.to_thread(reference_audio.encode_wav, recording)
    completed_at = bench.resources.clock()
    key = layout.preview(request.job_id)
    if await bench.resources.bucket.put_once(key, body, WAV) is None:
        if (published := await _published_before(bench.resources, key)) is None:
            raise Unavailable("The preview vanished between two looks at it.")
        return published
    preview = _describe(bench.resources, key, completed_at, recording.sample_rate, recording.duration_seconds)
    return _Published(preview, completed_at, by_us=True)


async def _published_before(resources: Resources, key: str) -> _Published | None:
    """Describe the audio of an earlier try, which died before it could; None when there is none."""
    stored = await resources.bucket.read(key, range_=_WAV_HEAD)
    if stored is None:
        return None
    preview = _describe(resources, key, stored.last_modified, *length_of_wav(stored.body))
    return _Published(preview, stored.last_modified, by_us=False)


def _describe(resources: Resources, key: str, completed_at: datetime, sample_rate: int, seconds: float) -> Preview:
    return Preview(
        key=key,
        sample_rate=sample_rate,
        duration_seconds=round(seconds, 3),
        expires_at=retention.preview_expires_at(completed_at, resources.settings),
    )


def _timings(spoken: Spoken, preview: Preview) -> Timings:
    seconds = spoken.speech.seconds if spoken.speech else 0.0
    waited = spoken.ended_at - timedelta(seconds=seconds) - spoken.request.created_at
    return Timings(
        queued_seconds=round(max(0.0, waited.total_seconds()), 3),
        synthesis_seconds=round(seconds, 3),
        real_time_factor=round(seconds / max(preview.duration_seconds, 0.001), 4),
    )


def _report(outcome: Succeeded | Failed, *, stands: bool) -> None:
    """Log one line about a job's end, with neither text nor audio."""
    facts: dict[str, object] = {"status": outcome.status, "kind": outcome.kind}
    if isinstance(outcome, Failed):
        facts["code"] = outcome.code
    elif outcome.preview is not None:
        facts["audio_seconds"] = outcome.preview.duration_seconds
        facts |= outcome.timings.model_dump() if outcome.timings else {}
    log.info("job ended" if stands else "job had ended already", **facts)
