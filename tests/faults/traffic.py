"""Clients that use the service until they are told to stop, and retry everything that fails."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any

import aiohttp

from tests.faults.ledger import Ledger, SavedVoice
from tests.faults.listener import Listener
from tests.support.speech import voice_wav

PATIENCE_SECONDS = 150.0
REQUEST_SECONDS = aiohttp.ClientTimeout(total=40)
PAUSE_SECONDS = (0.2, 1.5)
RECORDINGS = {sha256(wav).hexdigest(): wav for wav in (voice_wav(pitch, seconds=1.2) for pitch in (110, 140, 180))}
KEY = "Idempotency-Key"
_RETRIED = {429, 503, 507}

Form = Mapping[str, str | bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that is not retried."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The JSON body."""
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def code(self) -> str:
        """The code of an error, empty if the response is no error document."""
        try:
            return str(self.document["code"])
        except (ValueError, KeyError):
            return ""


@dataclass(slots=True)
class Upload:
    """A recording that can be used for previews, or saved once."""

    session_id: str
    recording: str


@dataclass(slots=True)
class Traffic:
    """The clients of one run, with one WebSocket each."""

    session: aiohttp.ClientSession
    url: str
    webhook_url: str
    ledger: Ledger
    random: Random
    listeners: list[Listener] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)
    is_stopping: bool = False

    async def run_client(self) -> None:
        """Run one client until `is_stopping`. It finishes the request in progress."""
        url = self.url.replace("http", "ws", 1) + "/ws"
        listener = Listener(self.session, url, self.ledger, self.random)
        self.listeners.append(listener)
        listening = asyncio.create_task(listener.run())
        actions: dict[Callable[[Listener], Awaitable[None]], int] = {
            self._preview: 8,
            self._preview_of_upload: 6,
            self._speak: 4,
            self._preview_on_socket: 6,
            self._save: 2,
            self._save_twice: 1,
            self._delete: 1,
        }
        try:
            while not self.is_stopping:
                (action,) = self.random.choices(tuple(actions), tuple(actions.values()))
                await action(listener)
                await _still(listening, self.random.uniform(*PAUSE_SECONDS))
            while self.ledger.unfinished():
                await _still(listening, 0.5)
        finally:
            listening.cancel()

    async def get(self, path: str) -> Answer | None:
        """Get a path. Return None if it failed for too long."""
        return await self._request("GET", path)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        form: Form | None = None,
        document: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer | None:
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE_SECONDS
        while loop.time() < end:
            try:
                answer = await self._try(method, path, _encoded(form), document, headers or {})
            except (aiohttp.ClientError, OSError, TimeoutError):
                self.ledger.refusals["no response"] += 1
            else:
                if not self._is_retried(answer, f"{method} {path}"):
                    return answer
            await asyncio.sleep(self.random.uniform(*PAUSE_SECONDS))
        self.ledger.refusals["given up by the client"] += 1
        return None

    async def _try(
        self, method: str, path: str, data: aiohttp.FormData | None, document: Any, headers: Mapping[str, str]
    ) -> Answer:
        async with self.session.request(
            method, self.url + path, data=data, json=document, headers=headers, timeout=REQUEST_SECONDS
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    def _is_retried(self, answer: Answer, request: str) -> bool:
        if answer.status < 400:
            return False
        self.ledger.refusals[f"{answer.status} {answer.code}"] += 1
        if answer.code in {"", "internal_error", "misconfigured"}:
            self.ledger.violations.append(f"{request}: {answer.status} {answer.code}")
        return answer.status in _RETRIED or answer.code == "request_in_progress"

    async def _preview(self, listener: Listener) -> None:
        recording, wav = self.random.choice(list(RECORDINGS.items()))
        session_id = await self._accepted(listener, "/preview", {"audio": wav, "transcription": "What is said."})
        if session_id:
            self.uploads.append(Upload(session_id, recording))

    async def _preview_of_upload(self, listener: Listener) -> None:
        if self.uploads:
            upload = self.random.choice(self.uploads)
            await self._accepted(listener, "/preview", {"session_id": upload.session_id}, upload.session_id)

    async def _speak(self, listener: Listener) -> None:
        if self.ledger.saved:
            voice_id, voice = self.random.choice(list(self.ledger.saved.items()))
            await self._accepted(listener, "/preview-from-voice", {"voice_id": voice_id}, voice.session_id)

    async def _preview_on_socket(self, listener: Listener) -> None:
        if self.uploads:
            await listener.request_preview(self.random.choice(self.uploads).session_id, self._text())

    async def _accepted(self, listener: Listener, path: str, fields: Form, session_id: str = "") -> str | None:
        """Request a preview until it is accepted. Return the session of its recording."""
        form = {**fields, "response_text": self._text()}
        wants_webhook = self.random.random() < 0.3
        if wants_webhook:
            form["webhook_url"] = self.webhook_url
        headers = {KEY: self._unique()}
        if self.random.random() < 0.7:
            headers["Prefer"] = "respond-async"
        answer = await self._request("POST", path, form=form, headers=headers)
        if answer is None or "X-Job-Id" not in answer.headers:
            self._check_deleted(answer, session_id)
            return None
        session_id = session_id or answer.headers["X-Session-Id"]
        job = self.ledger.accept(answer.headers["X-Job-Id"], session_id, wants_webhook=wants_webhook)
        if answer.status == 200:
            job.audio.add(sha256(answer.body).hexdigest())
        await listener.follow(job.job_id)
        if self.random.random() < 0.1:
            await self._repeat(path, form, headers, job.job_id)
        if self.random.random() < 0.1:
            await self._cancel(job.job_id)
        return session_id

    def _check_deleted(self, answer: Answer | None, session_id: str) -> None:
        """Record a refused preview, unless its voice is being deleted."""
        if answer is not None and session_id not in self.ledger.deleted_sessions:
            self.ledger.violations.append(f"preview of {session_id or 'a recording'}: {answer.body[:200]!r}")

    async def _repeat(self, path: str, form: Form, headers: Mapping[str, str], job_id: str) -> None:
        again = await self._request("POST", path, form=form, headers=headers)
        if again is not None and again.headers.get("X-Job-Id", job_id) != job_id:
            self.ledger.violations.append(f"a repeated request created {again.headers['X-Job-Id']} beside {job_id}")

    async def _cancel(self, job_id: str) -> None:
        answer = await self._request("DELETE", f"/jobs/{job_id}")
        if answer is not None and answer.status == 200 and not self.ledger.observe_view(answer.document):
            self.ledger.violations.append(f"job {job_id} is queued after its cancellation")

    async def _save(self, listener: Listener) -> None:
        if self.uploads and self.random.random() < 0.5:
            await self._saved(self._take_upload(), f"Voice {self._unique()}")
        else:
            await self._preview(listener)

    async def _save_twice(self, _listener: Listener) -> None:
        """Save two recordings under one name."""
        if len(self.uploads) < 2:
            return
        name = f"Voice {self._unique()}"
        answers = await asyncio.gather(*(self._saved(self._take_upload(), name, is_only=False) for _ in range(2)))
        if all(answer is not None and answer.status == 201 for answer in answers):
            self.ledger.violations.append(f"two recordings were saved as {name}")

    async def _saved(self, upload: Upload, name: str, *, is_only: bool = True) -> Answer | None:
        document = {"session_id": upload.session_id, "name": name}
        answer = await self._request("POST", "/voices", document=document, headers={KEY: self._unique()})
        if answer is not None and answer.status == 201:
            self.ledger.saved[answer.document["voice_id"]] = SavedVoice(upload.session_id, upload.recording)
        elif answer is not None and is_only:
            self.ledger.violations.append(f"{name} was not saved: {answer.body[:200]!r}")
        return answer

    async def _delete(self, _listener: Listener) -> None:
        if len(self.ledger.saved) < 3:
            return
        voice_id = self.random.choice(list(self.ledger.saved))
        self.ledger.begin_deletion(voice_id)
        answer = await self._request("DELETE", f"/voices/{voice_id}")
        if answer is not None and answer.status in {204, 404}:
            self.ledger.deleted.add(voice_id)

    def _take_upload(self) -> Upload:
        return self.uploads.pop(self.random.randrange(len(self.uploads)))

    def _text(self) -> str:
        return f"Number {self.random.randrange(10**6)}."

    def _unique(self) -> str:
        return f"{self.random.getrandbits(64):016x}"


async def _still(listening: asyncio.Task[None], seconds: float) -> None:
    """Wait, and raise the error of a listener that has ended."""
    await asyncio.wait([listening], timeout=seconds)
    if listening.done():
        await listening


def _encoded(form: Form | None) -> aiohttp.FormData | None:
    if form is None:
        return None
    data = aiohttp.FormData()
    for name, value in form.items():
        data.add_field(name, value, filename="a.wav" if isinstance(value, bytes) else None)
    return data
