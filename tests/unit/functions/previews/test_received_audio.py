"""The order of received audio chunks."""

import json

from functions.previews.received_audio import BUFFER_MAX_BYTES, ReceivedAudio
from pipeline.contract.messages.stream_messages import (
    AudioChunk,
    StreamStarted,
    encode_pcm,
    parse_stream_message,
    stream_message,
)


def chunk(seq: int, audio: bytes, take: str = "t") -> AudioChunk:
    return AudioChunk(
        job_id="j", take=take, seq=seq, sample_rate=24_000, audio_seconds=0.1 * (seq + 1), audio=encode_pcm(audio)
    )


def started(take: str = "t", *, restarted: bool = False) -> StreamStarted:
    return StreamStarted(job_id="j", take=take, restarted=restarted)


def test_messages_round_trip() -> None:
    for message in (started(), chunk(0, b"abcd")):
        assert parse_stream_message(stream_message(message)) == message
    for other in (b"", b"{", json.dumps({"job_id": "j"}).encode(), b'{"type":"tts_complete","data":{}}'):
        assert parse_stream_message(other) is None


def test_chunks_in_order() -> None:
    audio = ReceivedAudio()
    audio.add(started())
    assert (audio.is_started, audio.has_news) == (True, False)
    audio.add(chunk(0, b"ab"))
    audio.add(chunk(1, b"cd"))
    assert (audio.sample_rate, audio.seconds) == (24_000, 0.2)
    assert audio.take() == b"abcd"
    assert not audio.has_news
    audio.add(chunk(2, b"ef"))
    assert audio.take() == b"ef"
    assert not audio.is_interrupted
    assert audio.is_beginning_of(b"abcdefgh")
    assert not audio.is_beginning_of(b"abcdeXgh")


def test_restarted_take_continues() -> None:
    audio = ReceivedAudio()
    for message in (started(), chunk(0, b"ab"), chunk(1, b"cd")):
        audio.add(message)
    assert audio.take() == b"abcd"
    for message in (started(restarted=True), chunk(0, b"ab"), chunk(1, b"cd"), chunk(2, b"ef")):
        audio.add(message)
    assert audio.take() == b"ef"
    assert not audio.is_interrupted


def test_other_take_after_audio_interrupts() -> None:
    audio = ReceivedAudio()
    audio.add(chunk(0, b"ab"))
    assert audio.take() == b"ab"
    audio.add(chunk(0, b"XY", take="other"))
    audio.add(chunk(1, b"ZZ", take="other"))
    assert audio.is_interrupted
    assert not audio.has_news


def test_other_take_before_audio_replaces() -> None:
    audio = ReceivedAudio()
    audio.add(chunk(0, b"ab"))
    audio.add(started("other", restarted=True))
    audio.add(chunk(0, b"XY", take="other"))
    assert audio.take() == b"XY"
    assert not audio.is_interrupted


def test_lost_chunk_interrupts() -> None:
    audio = ReceivedAudio()
    audio.add(chunk(0, b"ab"))
    audio.add(chunk(2, b"ef"))
    audio.add(chunk(3, b"gh"))
    assert audio.take() == b"ab"
    assert audio.is_interrupted


def test_buffer_is_bounded() -> None:
    audio = ReceivedAudio()
    for seq in range(100):
        audio.add(chunk(seq, bytes(30_000)))
    assert audio.is_interrupted
    assert len(audio.take()) <= BUFFER_MAX_BYTES


def test_all_of_take_was_returned() -> None:
    audio, samples = ReceivedAudio(), bytes(4800)  # 0.1 s
    audio.add(chunk(0, samples))
    audio.take()
    assert audio.is_all_of("t", 0.1)
    assert not audio.is_all_of("other", 0.1)
    assert not audio.is_all_of(None, 0.1)
    audio.add(chunk(1, samples))  # while the outcome is read
    assert not audio.is_all_of("t", 0.2)
    audio.take()
    assert audio.is_all_of("t", 0.2)
    audio.add(chunk(3, samples))
    assert not audio.is_all_of("t", 0.2)
