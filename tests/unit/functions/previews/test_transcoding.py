"""Encoding of previews: sharing, cancellation, cache, limits and costs."""

import asyncio
from datetime import timedelta

import pytest

from functions.previews import transcoding
from functions.previews.transcoding import FILES_PER_OWNER, EncodedFile, Transcoder
from pipeline.audio.output_formats import FORMATS, OutputFormat
from pipeline.audio.reference_audio import encode_wav
from pipeline.clients import deadlines
from pipeline.contract import layout
from pipeline.errors import NotReady, TooMany
from pipeline.ids import Owner
from pipeline.provenance.manifests import Manifests
from pipeline.settings import Settings
from tests.support.fake_service import FakeService
from tests.support.fakes.clock import settle
from tests.support.speech import voice

WAV = encode_wav(voice(150.0, seconds=1.2, sample_rate=24_000))
LONG_WAV = encode_wav(voice(150.0, seconds=25.0, sample_rate=24_000))


class Source:
    """A stored WAV that is read when the test allows it."""

    def __init__(self, wav: bytes = WAV, *, is_open: bool = True) -> None:
        self.reads = 0
        self.wav = wav
        self.opened = asyncio.Event()
        if is_open:
            self.opened.set()

    async def read(self) -> bytes:
        """Return the WAV."""
        self.reads += 1
        await self.opened.wait()
        return self.wav


class Encodings:
    """The transcoder of a process."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.fakes = FakeService(settings)
        self.transcoder = Transcoder(self.fakes.resources, Manifests(self.fakes.resources))
        self.expires_at = self.fakes.time() + timedelta(minutes=20)

    def start(
        self,
        source: Source,
        job_id: str = "j",
        format_: OutputFormat = FORMATS["mp3"],
        *,
        owner: Owner = None,
        is_charged: bool = False,
    ) -> "asyncio.Task[EncodedFile]":
        """Request a file."""
        encoding = self.transcoder.file(
            job_id, format_, source.read, owner=owner, expires_at=self.expires_at, is_charged=is_charged
        )
        return asyncio.create_task(encoding)


async def test_concurrent_clients_share_encoding() -> None:
    encodings, source = Encodings(), Source()
    files = await asyncio.gather(*(encodings.start(source) for _ in range(5)))
    assert len({file.body for file in files}) == 1
    assert source.reads == 1


async def test_formats_are_encoded_separately() -> None:
    encodings, source = Encodings(), Source()
    mp3, opus = await asyncio.gather(encodings.start(source), encodings.start(source, format_=FORMATS["opus"]))
    assert (mp3.body[:1], opus.body[:4]) == (b"\xff", b"OggS")


async def test_cancelled_client_leaves_encoding_to_others() -> None:
    encodings, source = Encodings(), Source(is_open=False)
    first, second = encodings.start(source), encodings.start(source)
    await settle()
    first.cancel()
    await settle()
    source.opened.set()
    assert (await second).body
    assert source.reads == 1


async def test_encoding_without_clients_is_cancelled() -> None:
    encodings, source = Encodings(), Source(is_open=False)
    clients = [encodings.start(source), encodings.start(source)]
    await settle()
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    await settle()
    source.opened.set()
    again = Source()
    assert (await encodings.start(again)).body
    assert again.reads == 1


async def test_file_cached_until_expiry() -> None:
    encodings, source = Encodings(), Source()
    first = await encodings.start(source)
    assert await encodings.start(source) == first
    assert source.reads == 1
    encodings.fakes.advance(minutes=20)
    await encodings.start(source)
    assert source.reads == 2


async def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    encodings, source = Encodings(), Source()
    size = len((await encodings.start(source, "a")).body)
    monkeypatch.setattr(transcoding, "CACHE_MAX_BYTES", int(size * 1.5))
    await encodings.start(source, "b")
    await encodings.start(source, "b")
    assert source.reads == 2
    await encodings.start(source, "a")
    assert source.reads == 3


async def test_files_per_owner_are_limited() -> None:
    encodings, source = Encodings(), Source(is_open=False)
    files = [encodings.start(source, f"j{number}", owner="a") for number in range(FILES_PER_OWNER)]
    await settle()
    with pytest.raises(TooMany) as refused:
        await encodings.start(source, "another", owner="a")
    assert refused.value.retry_after
    other = encodings.start(Source(), "other", owner="b")
    assert (await other).body, "another owner waits for one file of the first at most"
    source.opened.set()
    await asyncio.gather(*files)
    assert (await encodings.start(source, "another", owner="a")).body


async def test_files_in_total_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcoding, "FILES_IN_TOTAL", 2)
    encodings, source = Encodings(), Source(is_open=False)
    files = [encodings.start(source, owner, owner=owner) for owner in ("a", "b")]
    await settle()
    with pytest.raises(TooMany):
        await encodings.start(source, "c", owner="c")
    source.opened.set()
    await asyncio.gather(*files)


async def test_deadline_leaves_encoding_running() -> None:
    encodings, source = Encodings(), Source(is_open=False)
    with deadlines.within(0), pytest.raises(NotReady):
        await encodings.start(source)
    source.opened.set()
    assert (await encodings.start(source)).body
    assert source.reads == 1


async def test_encoding_counts_as_requests() -> None:
    encodings, source = Encodings(Settings(auth="keys", requests_per_minute=10)), Source(LONG_WAV)
    await encodings.start(source, "a", owner="alice", is_charged=True)  # 25 seconds: 3 requests
    await encodings.start(source, "a", owner="alice", is_charged=True)  # cached
    await encodings.start(source, "b", owner="alice", is_charged=True)
    await encodings.start(source, "c", owner="alice", is_charged=True)
    with pytest.raises(TooMany) as refused:
        await encodings.start(source, "d", owner="alice", is_charged=True)
    assert refused.value.retry_after
    await encodings.start(source, "d", owner="bob", is_charged=True)


async def test_slow_speed_costs_more() -> None:
    encodings, source = Encodings(Settings(auth="keys", requests_per_minute=20)), Source(LONG_WAV)
    slow = OutputFormat("flac", "audio/flac", speed=0.25)
    for job_id in ("a", "b"):
        await encodings.start(source, job_id, slow, owner="alice", is_charged=True)  # 100 seconds: 10 requests
    with pytest.raises(TooMany):
        await encodings.start(source, "c", owner="alice", is_charged=True)


async def test_failed_encoding_is_retried() -> None:
    encodings = Encodings()
    with pytest.raises(Exception, match="unpack"):
        await encodings.start(Source(b"RIFF"))
    assert (await encodings.start(Source())).body


async def test_deleted_previews_are_dropped() -> None:
    encodings, source = Encodings(), Source()
    for job_id in ("kept", "deleted"):
        await encodings.fakes.bucket.put(layout.preview(job_id), WAV, "audio/wav")
        await encodings.start(source, job_id)
    await encodings.fakes.bucket.delete([layout.preview("deleted")])
    await encodings.transcoder.drop_deleted()
    for job_id in ("kept", "deleted"):
        await encodings.start(source, job_id)
    assert source.reads == 3
