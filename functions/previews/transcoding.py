"""Encoding of previews in other formats than the stored WAV, with limits per owner and in total.

Encoders run in a thread pool of their own, so that they delay no other work of the process. A file is encoded in
short slices. Between two slices other files and streams use the pool, and an encoding that no client waits for is
cancelled.
"""

import asyncio
import hashlib
import os
import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import TypeVar

from pipeline.access import rate_limits
from pipeline.audio.output_formats import Encoder, OutputFormat, file_encoder
from pipeline.audio.wav import read_wav
from pipeline.clients import deadlines
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.errors import NotReady, TooMany, Unavailable
from pipeline.ids import Owner
from pipeline.provenance.manifests import Manifests

ResultT = TypeVar("ResultT")

THREADS = max(1, (os.cpu_count() or 1) // 2)
FILES_AT_ONCE = 2 * THREADS
FILES_PER_OWNER = 8  # encoded or waiting; further requests are refused
FILES_IN_TOTAL = 64
CACHE_MAX_BYTES = 64 * 1024 * 1024
RETRY_SECONDS = 5
# Of an owner's requests per minute, the encoding of so much audio counts as one.
SECONDS_PER_REQUEST = 10
_SLICE_SECONDS = 0.5  # takes up to 0.1 s of CPU time
_READ_SECONDS = 30.0
_CHECK_SECONDS = 20.0
_NICENESS = 10

Read = Callable[[], Awaitable[bytes]]
FileKey = tuple[str, OutputFormat]


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """A complete file. Encoders are not deterministic: `digest` identifies its bytes."""

    body: bytes
    digest: str
    expires_at: datetime


@dataclass(slots=True)
class _Encoding:
    """A file that is being encoded, for all clients that wait for it."""

    task: asyncio.Task[EncodedFile]
    clients: int = 0
    is_wanted: bool = False
    """Whether to continue without clients: one will retry."""


class Transcoder:
    """Encodes and caches files; one per process."""

    def __init__(self, resources: Resources, manifests: Manifests) -> None:
        self._resources = resources
        self._manifests = manifests
        self._pool = ThreadPoolExecutor(THREADS, "transcoding", initializer=_lower_priority)
        self._encodings: dict[FileKey, _Encoding] = {}
        self._cache: OrderedDict[FileKey, EncodedFile] = OrderedDict()
        self._cached_bytes = 0
        self._files_of: Counter[Owner] = Counter()
        self._turns: dict[Owner, asyncio.Lock] = {}
        self._slots = asyncio.Semaphore(FILES_AT_ONCE)
        self._checking: asyncio.Task[None] | None = None

    async def run(self, function: Callable[..., ResultT], *args: object) -> ResultT:
        """Run a short step of an encoder in the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    async def encode(self, encoder: Encoder, samples: bytes, sample_rate: int) -> bytes:
        """Encode mono 16-bit samples in slices; return the bytes that were added to the file."""
        size = 2 * int(sample_rate * _SLICE_SECONDS)
        slices = (samples[start : start + size] for start in range(0, len(samples), size))
        return b"".join([await self.run(encoder.encode, part) for part in slices])

    async def file(
        self,
        job_id: str,
        format_: OutputFormat,
        read: Read,
        *,
        owner: Owner,
        expires_at: datetime,
        is_charged: bool,
    ) -> EncodedFile:
        """Return a preview as a file in another format, from the cache if it was encoded before.

        Clients that request the same file at a time share one encoding. It is cancelled when all of them have been
        cancelled.

        Parameters
        ----------
        job_id, format_
            The file.
        read
            Reads the stored WAV. Called when the encoding starts.
        owner, expires_at
            The owner and the expiry of the preview.
        is_charged
            Count the encoding towards the owner's requests per minute.

        Raises
        ------
        TooMany
            The owner's quota is used up, or too many files are being encoded.
        NotReady
            The encoding takes longer than the deadline of the request. It continues.
        FormatNotInstalled
            The format needs a library that is not installed.
        """
        key = (job_id, format_)
        if (cached := self._cached(key)) is not None:
            return cached
        if key not in self._encodings:
            self._check_limits(owner)
            task = asyncio.create_task(self._encode(key, read, owner, expires_at, is_charged=is_charged))
            self._encodings[key] = _Encoding(task)
            self._files_of[owner] += 1
            task.add_done_callback(lambda task: self._end(key, owner, task))
        encoding = self._encodings[key]
        encoding.clients += 1
        try:
            async with deadlines.timeout():
                return await asyncio.shield(encoding.task)
        except TimeoutError:
            encoding.is_wanted = True
            message = f"The preview is still being encoded as {format_.name}."
            raise NotReady(message, field="format", retry_after=RETRY_SECONDS) from None
        finally:
            encoding.clients -= 1
            if not encoding.clients and not encoding.is_wanted:
                encoding.task.cancel()
                if self._encodings.get(key) is encoding:
                    del self._encodings[key]

    def _check_limits(self, owner: Owner) -> None:
        if self._files_of[owner] >= FILES_PER_OWNER or self._files_of.total() >= FILES_IN_TOTAL:
            raise TooMany("Too many previews are being encoded; retry later.", retry_after=RETRY_SECONDS)

    def _end(self, key: FileKey, owner: Owner, task: asyncio.Task[EncodedFile]) -> None:
        encoding = self._encodings.get(key)
        if encoding is not None and encoding.task is task:
            del self._encodings[key]
        self._files_of[owner] -= 1
        if not self._files_of[owner]:
            del self._files_of[owner]
            self._turns.pop(owner, None)
        if not task.cancelled() and task.exception() is None:
            self._store(key, task.result())

    async def _encode(
        self, key: FileKey, read: Read, owner: Owner, expires_at: datetime, *, is_charged: bool
    ) -> EncodedFile:
        job_id, format_ = key
        if not format_.needs_encoding:
            wav = await read()
            sample_rate, samples = read_wav(wav)
            encoder = file_encoder(format_, sample_rate)
            body = encoder.encode(samples) + encoder.finish()
        else:
            async with self._turn(owner):
                with deadlines.within(_READ_SECONDS):
                    wav = await read()
                    sample_rate, samples = read_wav(wav)
                    if is_charged:
                        seconds = len(samples) / 2 / sample_rate / format_.speed
                        await rate_limits.take_request(self._resources, owner, ceil(seconds / SECONDS_PER_REQUEST))
                encoder = await self.run(file_encoder, format_, sample_rate)
                body = await self.encode(encoder, samples, sample_rate) + await self.run(encoder.finish)
        body = await self._manifests.copy(wav, body, format_.media_type, job_id)
        return EncodedFile(body, hashlib.sha256(body).hexdigest()[:16], expires_at)

    @asynccontextmanager
    async def _turn(self, owner: Owner) -> AsyncIterator[None]:
        """Hold one of the slots. An owner uses one slot at a time, so that owners take turns."""
        async with self._turns.setdefault(owner, asyncio.Lock()), self._slots:
            yield

    async def drop_deleted(self) -> None:
        """Drop the cached files of previews that were deleted."""
        for job_id in {job_id for job_id, _ in self._cache}:
            if await self._resources.bucket.head(layout.preview(job_id)) is None:
                for key in [key for key in self._cache if key[0] == job_id]:
                    self._drop(key)

    async def _check_until_empty(self) -> None:
        while self._cache:
            await asyncio.sleep(_CHECK_SECONDS)
            with suppress(Unavailable):
                await self.drop_deleted()

    def _drop(self, key: FileKey) -> None:
        self._cached_bytes -= len(self._cache.pop(key).body)

    def _cached(self, key: FileKey) -> EncodedFile | None:
        file = self._cache.get(key)
        if file is not None and file.expires_at > self._resources.clock():
            self._cache.move_to_end(key)
            return file
        return None

    def _store(self, key: FileKey, file: EncodedFile) -> None:
        now = self._resources.clock()
        if key in self._cache:
            self._drop(key)
        self._cache[key] = file
        self._cached_bytes += len(file.body)
        for old, cached in list(self._cache.items()):
            if self._cached_bytes <= CACHE_MAX_BYTES and cached.expires_at > now:
                continue
            self._drop(old)
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check_until_empty())


def _lower_priority() -> None:
    """Let other threads of the machine run first. Linux has priorities of threads."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
