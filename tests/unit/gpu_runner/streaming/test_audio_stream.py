"""Streamed audio: in order, whole and early for a client who reads, and nobody's burden for one who does not."""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.streaming.audio_stream import FIRST_CHUNKS, Attempt, AudioStream
from gpu_runner.streaming.chunks import Chunks, to_pcm
from gpu_runner.streaming.posts import Posts
from gpu_runner.streaming.sender import BUFFER_MESSAGES
from pipeline.audio.reference_audio import Recording, Samples, encode_wav
from pipeline.contract.messages.message_batches import AddressedMessage, Undelivered
from pipeline.contract.messages.stream_messages import CHUNK_MAX_SECONDS
from pipeline.contract.records import ReplyTo, Subscriber
from pipeline.errors import ConnectionGone, Unavailable
from tests.support.fakes.clock import FakeTime, settle

RATE = 24_000
FRAME_BYTES = 32 * 1024  # the most that API Gateway sends in one frame


class Client:
    """The maker of a job, who takes messages while `reads` is set."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.largest = 0
        self.tries = 0
        self.reads = asyncio.Event()
        self.reads.set()
        self.error: Exception | None = None

    async def post(self, to: ReplyTo, body: bytes) -> None:
        """See `Connections.post`."""
        self.tries += 1
        await self.reads.wait()
        if self.error:
            raise self.error
        self.messages.append(json.loads(body))
        self.largest = max(self.largest, len(body))

    async def post_batch(self, endpoint: str, messages: Sequence[AddressedMessage]) -> Undelivered:
        """See `Connections.post_batch`."""
        raise NotImplementedError

    async def close(self, to: ReplyTo) -> None:
        """See `Connections.close`."""

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The data of the audio messages."""
        return [message["data"] for message in self.messages if message["type"] == "tts_audio"]

    @property
    def pcm(self) -> bytes:
        """All audio, joined."""
        return b"".join(b64decode(chunk["audio"]) for chunk in self.chunks)


@pytest.fixture
async def client() -> Client:
    return Client()


@pytest.fixture
async def stream(client: Client) -> AsyncIterator[AudioStream]:
    stream = AudioStream(Posts(client), Attempt("job", "mock-1", RATE, restarted=False), FakeTime())
    stream.subscribe(subscriber("r1"))
    yield stream
    stream.abort()


def subscriber(request_id: str) -> Subscriber:
    reply_to = ReplyTo(endpoint="http://here", connection_id="c")
    return Subscriber(reply_to=reply_to, request_id=request_id, stream=True)


def noise(seconds: float, *, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).uniform(-1, 1, round(seconds * RATE)).astype(np.float32)


async def test_first_audio_time_without_subscribers(client: Client) -> None:
    time = FakeTime()
    stream = AudioStream(Posts(client), Attempt("job", "mock-1", RATE, restarted=False), time)
    assert stream.first_audio_at is None
    first = time.now
    stream.add(noise(0.01))
    time.now += timedelta(seconds=2)
    stream.add(noise(0.01))
    assert stream.first_audio_at == first


async def test_chunks_joined_equal_stored_audio(client: Client, stream: AudioStream) -> None:
    samples = noise(2.5)
    for piece in np.array_split(samples, 7):
        stream.add(piece)
        await settle()
    await stream.close()
    assert client.pcm == encode_wav(Recording(samples, RATE))[-2 * len(samples) :]
    assert [chunk["seq"] for chunk in client.chunks] == list(range(len(client.chunks)))
    assert client.chunks[-1]["audio_seconds"] == 2.5


async def test_message_fits_websocket_frame(client: Client, stream: AudioStream) -> None:
    stream.add(noise(3))
    await stream.close()
    assert client.messages[0] == {
        "type": "progress",
        "data": {"job_id": "job", "request_id": "r1", "take": "mock-1", "status": "started", "restarted": False},
    }
    assert client.chunks[5] == client.chunks[5] | {
        "job_id": "job",
        "request_id": "r1",
        "take": "mock-1",
        "seq": 5,
        "format": "pcm_s16le",
        "sample_rate": RATE,
        "audio_seconds": 1.28,
    }
    assert max(len(b64decode(chunk["audio"])) for chunk in client.chunks) <= CHUNK_MAX_SECONDS * RATE * 2
    assert client.largest < FRAME_BYTES


async def test_first_chunk_with_first_frame(client: Client, stream: AudioStream) -> None:
    stream.add(noise(0.08))
    await settle()
    assert [chunk["audio_seconds"] for chunk in client.chunks] == [0.08]


@settings(derandomize=True, database=None, max_examples=50)
@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_chunk_bounds_independent_of_pieces(sizes: list[int], seed: int) -> None:
    samples = noise(sum(sizes) / RATE, seed=seed)
    cut = cut_into_chunks(np.split(samples, np.cumsum(sizes)[:-1]))
    assert cut == cut_into_chunks([samples])
    assert b"".join(cut) == to_pcm(samples)


def cut_into_chunks(pieces: Sequence[Samples]) -> list[bytes]:
    chunks = Chunks(RATE)
    return [to_pcm(chunk.samples) for piece in pieces for chunk in chunks.add(piece)] + [
        to_pcm(chunk.samples) for chunk in chunks.flush()
    ]


def test_pcm_equals_wav() -> None:
    borders = (np.arange(-32769, 32770) / 32768).astype(np.float32)
    above, below = (np.nextafter(borders, np.float32(to)) for to in (2, -2))
    samples = np.concatenate([borders, above, below, noise(1)])
    assert to_pcm(samples) == encode_wav(Recording(samples, RATE))[-2 * len(samples) :]


async def test_slow_client_buffer_is_bounded(client: Client, stream: AudioStream) -> None:
    client.reads.clear()
    for _ in range(1000):
        stream.add(noise(0.32))
    client.reads.set()
    await stream.close()
    assert BUFFER_MESSAGES - 1 <= len(client.messages) <= BUFFER_MESSAGES + 1


async def test_slow_client_sees_gap(client: Client, stream: AudioStream) -> None:
    client.reads.clear()
    for _ in range(BUFFER_MESSAGES + 10):
        stream.add(noise(0.32))
    client.reads.set()
    await settle()
    stream.add(noise(0.32))
    await stream.close()
    received = [chunk["seq"] for chunk in client.chunks]
    assert received == sorted(received)
    assert received[-1] - received[-3] > 2


async def test_failed_post_is_gap(client: Client, stream: AudioStream) -> None:
    stream.add(noise(0.08))
    await settle()
    client.error = Unavailable("not now")
    stream.add(noise(0.08))
    await settle()
    client.error = None
    stream.add(noise(0.16))
    await stream.close()
    assert [chunk["seq"] for chunk in client.chunks] == [0, 2]


async def test_gone_client_gets_nothing(client: Client, stream: AudioStream) -> None:
    await settle()
    client.error = ConnectionGone("gone")
    tries = client.tries
    stream.add(noise(5))
    await settle()
    stream.add(noise(5))
    await stream.close()
    assert client.tries == tries + 1


async def test_late_subscriber_gets_same_chunks(client: Client, stream: AudioStream) -> None:
    stream.add(noise(0.5))
    stream.subscribe(subscriber("late"))
    stream.add(noise(0.5))
    await stream.close()
    by_request = {id_: [one for one in client.chunks if one["request_id"] == id_] for id_ in ("r1", "late")}
    assert [chunk["seq"] for chunk in by_request["r1"]] == [0, 1, 2, 3, 4, 5]
    assert [chunk["seq"] for chunk in by_request["late"]] == [3, 4, 5]
    assert [chunk["audio"] for chunk in by_request["late"]] == [chunk["audio"] for chunk in by_request["r1"][3:]]


async def test_joined_request_gets_first_chunks(client: Client, stream: AudioStream) -> None:
    stream.add(noise(0.5))
    stream.subscribe(subscriber("joined").model_copy(update={"interface": "http"}))
    stream.add(noise(0.5))
    await stream.close()
    by_request = {id_: [one for one in client.chunks if one["request_id"] == id_] for id_ in ("r1", "joined")}
    assert [chunk["seq"] for chunk in by_request["joined"]] == [0, 1, 2, 3, 4, 5]
    assert [chunk["audio"] for chunk in by_request["joined"]] == [chunk["audio"] for chunk in by_request["r1"]]


async def test_joined_request_of_long_stream(client: Client, stream: AudioStream) -> None:
    """The first chunks are kept up to a limit. The HTTP response continues with the stored audio."""
    stream.add(noise(30))
    await settle()
    stream.subscribe(subscriber("joined").model_copy(update={"interface": "http"}))
    stream.add(noise(0.5))
    await stream.close()
    seqs = [chunk["seq"] for chunk in client.chunks if chunk["request_id"] == "joined"]
    assert seqs[:FIRST_CHUNKS] == list(range(FIRST_CHUNKS))
    assert seqs[FIRST_CHUNKS] > FIRST_CHUNKS


async def test_progress_at_most_once_per_second(
    client: Client,
) -> None:
    time = FakeTime()
    stream = AudioStream(Posts(client), Attempt("job", "mock-1", RATE, restarted=False), time)
    stream.subscribe(Subscriber(reply_to=ReplyTo(endpoint="http://here", connection_id="c"), progress=True))
    for _ in range(40):
        stream.add(noise(0.32))
        await time.advance(0.1)
    await stream.close()
    assert client.chunks == []
    assert client.messages[0]["data"]["status"] == "started"
    assert client.messages[1] == {
        "type": "progress",
        "data": {"job_id": "job", "take": "mock-1", "status": "generating", "audio_seconds": 0.08},
    }
    made = [message["data"]["audio_seconds"] for message in client.messages[1:]]
    assert made == sorted(made)
    assert len(made) == 4


async def test_nothing_sent_after_close(client: Client, stream: AudioStream) -> None:
    stream.add(noise(0.5))
    await stream.close()
    count = len(client.messages)
    stream.add(noise(0.5))
    await stream.close()
    await settle()
    assert len(client.messages) == count


async def test_close_waits_one_second(client: Client, stream: AudioStream) -> None:
    await settle()
    client.reads.clear()
    stream.add(noise(1))
    async with asyncio.timeout(3):
        await stream.close()
    client.reads.set()
    await settle()
    assert client.chunks == []
