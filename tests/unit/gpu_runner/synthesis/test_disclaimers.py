"""Audible labels in the audio of jobs."""

import json
from base64 import b64decode
from dataclasses import replace

import numpy as np
import pytest

from gpu_runner.engines import Announcement, Piece, Reference, Utterance
from gpu_runner.engines.hibari.engine import HibariEngine
from gpu_runner.engines.mock import MockPrompt, hum
from gpu_runner.synthesis.disclaimers import GAP_SECONDS, RHYTHM, Inserter, rhythm
from pipeline.audio.reference_audio import Samples, decode_wav
from pipeline.contract import layout
from pipeline.contract.records import Options, ReplyTo, Source, Subscriber
from pipeline.domain import acceptance
from pipeline.provenance import disclaimers
from pipeline.provenance.disclaimers import CACHE_SECONDS, SENTENCES, DisclaimerSettings
from tests.support.engines import ScriptedEngine
from tests.support.fake_service import FakeConnections
from tests.support.fakes.resources import Fakes
from tests.support.job_requests import make_request, store_upload, submit_session_job
from tests.support.speech import voice
from tests.support.workers import fake_time_worker

RATE = 24_000
LABEL = np.full(RATE // 10, 0.5, np.float32)


def speech(*seconds: float, pause: float = 0.6) -> Samples:
    """Return tones of these lengths, with a pause after each."""
    tone = np.sin(2 * np.pi * 200 * np.arange(RATE * 5) / RATE).astype(np.float32)
    silence = np.zeros(round(pause * RATE), np.float32)
    return np.concatenate([part for length in seconds for part in (tone[: round(length * RATE)], silence)])


def labelled(samples: Samples, interval: float, sizes: int) -> Samples:
    inserter = Inserter(Announcement(LABEL, interval), RATE)
    parts = [inserter.add(samples[start : start + sizes]) for start in range(0, len(samples), sizes)]
    return np.concatenate([*parts, inserter.finish()])


def positions(samples: Samples) -> list[float]:
    """Return where labels begin, in seconds."""
    is_label = np.convolve(samples == 0.5, np.ones(len(LABEL)), "valid") == len(LABEL)
    return [float(position) / RATE for position in np.flatnonzero(is_label)]


def test_label_is_repeated_in_pauses() -> None:
    found = positions(labelled(speech(1, 1, 1, 1, 1), 2.0, 1000))
    second = 0.1 + 3.1 + GAP_SECONDS  # in the second pause
    assert found == pytest.approx([0, second, second + 3.2 + 0.1 + GAP_SECONDS], abs=0.03)


def test_label_waits_for_pause() -> None:
    assert len(positions(labelled(speech(4), 2.0, 1000))) == 2
    assert len(positions(labelled(speech(4)[: 4 * RATE], 2.0, 1000))) == 1


def test_short_pause_is_used_late() -> None:
    samples = speech(*[1] * 20, pause=0.4)
    assert positions(labelled(samples, 2.0, 1000))[1] == pytest.approx(
        0.1 + 13 * 1.4 - 0.08 + GAP_SECONDS, abs=0.03
    )
    assert len(positions(labelled(speech(*[1] * 20, pause=0.3), 2.0, 1000))) == 1


@pytest.mark.parametrize("sizes", [1, 479, 480, 5000, 10**6])
def test_labels_do_not_depend_on_pieces(sizes: int) -> None:
    samples = speech(0.6, 0.5, 0.7)
    assert np.array_equal(labelled(samples, 0.5, sizes), labelled(samples, 0.5, 777))


def test_speech_is_complete_with_labels() -> None:
    samples = speech(0.6, 0.5, 0.7)
    once = labelled(samples, 60, 777)
    assert np.array_equal(once, np.concatenate([LABEL, samples]))


def test_rhythm_is_short_long_short_short() -> None:
    is_tone = np.abs(rhythm(RATE)) > 0.001
    edges = np.flatnonzero(np.diff(np.concatenate([[0], _smoothed(is_tone), [0]])))
    lengths = (edges[1::2] - edges[::2]) / RATE
    assert lengths == pytest.approx([tone for tone, _ in RHYTHM], abs=0.01)


def _smoothed(is_tone: "np.typing.NDArray[np.bool_]") -> "np.typing.NDArray[np.int_]":
    """Close the gaps at the zero crossings of a tone."""
    return (np.convolve(is_tone, np.ones(101), "same") > 50).astype(int)


def test_labels_are_between_sentences_of_engine() -> None:
    engine = HibariEngine()
    prompt = engine.make_prompt(Reference(voice(130), ""))
    text = "It was the best of times, it was the worst. We had everything, they say. Then the rain stopped."
    engine.admit(Utterance("a", text, prompt, Options()))
    pieces = [event.samples for _ in range(3) for event in engine.step() if isinstance(event, Piece)]
    ends = np.cumsum([len(piece) for piece in pieces])[:-1] / RATE
    found = positions(labelled(np.concatenate(pieces), 0.1, 4000))[1:]
    without_labels = [at - 0.1 - index * 0.1 - (index + 1) * GAP_SECONDS for index, at in enumerate(found)]
    assert len(found) >= 2
    assert np.abs(np.subtract.outer(ends, without_labels)).min(axis=1).max() < 0.5


async def settings(fakes: Fakes, **given: object) -> None:
    await disclaimers.write(fakes.resources, None, DisclaimerSettings.model_validate(given))


async def audio_of(fakes: Fakes, job_id: str) -> Samples:
    return decode_wav(fakes.bucket.objects[layout.preview(job_id)].body).samples


async def test_sentence_is_generated_once_per_voice(fakes: Fakes) -> None:
    await settings(fakes, spoken=True)
    session_id, engine = await store_upload(fakes.resources), ScriptedEngine()
    async with fake_time_worker(fakes, engine) as worker:
        requests = [await submit_session_job(fakes.resources, session_id) for _ in range(3)]
        await worker.until_ended(*(request.job_id for request in requests))
    assert [job_id.endswith("-disclaimer") for job_id in engine.admitted] == [True, False, False, False]
    first, second, _ = [await audio_of(fakes, request.job_id) for request in requests]
    assert np.array_equal(first, second)  # the mock's audio depends on the text only
    prompt = MockPrompt(f0=120, level=0.1)
    spoken = [len(hum(text, prompt)) for text in (SENTENCES["English"], requests[0].text)]
    assert len(first) == sum(spoken) + GAP_SECONDS * RATE


async def test_no_labels_by_default(fakes: Fakes) -> None:
    session_id, engine = await store_upload(fakes.resources), ScriptedEngine()
    async with fake_time_worker(fakes, engine) as worker:
        request = await submit_session_job(fakes.resources, session_id)
        await worker.until_ended(request.job_id)
    assert engine.admitted == [request.job_id]


async def test_changed_settings_apply_after_a_minute(fakes: Fakes) -> None:
    session_id, engine = await store_upload(fakes.resources), ScriptedEngine()
    async with fake_time_worker(fakes, engine) as worker:
        before = await submit_session_job(fakes.resources, session_id)
        await worker.until_ended(before.job_id)
        await settings(fakes, chinese_label=True)
        await fakes.time.advance(CACHE_SECONDS)
        after = await submit_session_job(fakes.resources, session_id)
        await worker.until_ended(after.job_id)
    added = len(await audio_of(fakes, after.job_id)) - len(await audio_of(fakes, before.job_id))
    assert added / RATE == pytest.approx(sum(map(sum, RHYTHM)) + GAP_SECONDS, abs=0.01)


async def test_streamed_audio_has_labels(fakes: Fakes) -> None:
    connections = FakeConnections()
    streaming = replace(fakes, resources=replace(fakes.resources, connections=connections))
    await settings(fakes, spoken=True, chinese_label=True)
    session_id = await store_upload(fakes.resources)
    request = make_request(fakes.resources, Source(session_id=session_id), session_id)
    subscriber = Subscriber(reply_to=ReplyTo(endpoint="http://here", connection_id="c"), stream=True)
    request = request.model_copy(update={"subscriber": subscriber})
    await acceptance.accept(streaming.resources, request)
    async with fake_time_worker(streaming, ScriptedEngine()) as worker:
        await worker.until_ended(request.job_id)
    sent = [json.loads(body) for _, body in connections.posted]
    pcm = b"".join(b64decode(message["data"]["audio"]) for message in sent if message["type"] == "tts_audio")
    assert pcm == fakes.bucket.objects[layout.preview(request.job_id)].body[44:]
    label = rhythm(RATE)
    assert np.abs(np.frombuffer(pcm, "<i2")[: len(label)] / 32768 - label).max() < 0.001
