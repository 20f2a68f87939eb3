"""Voice prompts: created once for each reference, stored with it, and cached in memory."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

import structlog

from gpu_runner.engines import PromptRejected, Reference, VoicePrompt
from gpu_runner.synthesis.engine_thread import EngineThread
from gpu_runner.synthesis.revocations import Revocations
from pipeline.audio import reference_audio
from pipeline.audio.reference_audio import Samples
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout, retention
from pipeline.contract.records import Request, VoiceMetadata
from pipeline.errors import Expired, NotFound, PipelineError

log = structlog.get_logger(__name__)

_Key = tuple[str, str]  # folder, reference id


@dataclass(slots=True)
class Voice:
    """A prompt, and whether it is stored already."""

    prompt: VoicePrompt
    stored: bool
    storing: asyncio.Lock = field(default_factory=asyncio.Lock)
    sentences: dict[str, Samples] = field(default_factory=dict)
    """Spoken disclaimers by language, see `Disclaimers`."""
    announcing: asyncio.Lock = field(default_factory=asyncio.Lock)


class PromptStore:
    """Loads or creates the prompt of a request's reference, once for all jobs that need it at the same time."""

    def __init__(self, resources: Resources, engine: EngineThread, revocations: Revocations) -> None:
        self._resources = resources
        self._engine = engine
        self._revocations = revocations
        self._cache: OrderedDict[_Key, Voice] = OrderedDict()
        self._loading: dict[_Key, asyncio.Task[Voice]] = {}

    async def get(self, request: Request, *, maybe_stored: bool) -> Voice:
        """Return the prompt. `maybe_stored` is false when it cannot be stored yet.

        Raises
        ------
        InvalidInput
            The reference is unusable.
        NotFound, Expired, VoiceDeleted
            The reference does not exist.
        """
        self._revocations.check(request)
        key = _identity(request)
        if key in self._cache and request.kind == "preview":
            self._cache.move_to_end(key)
            return self._cache[key]
        if key not in self._loading:
            self._loading[key] = asyncio.create_task(self._load(request, maybe_stored=maybe_stored))
            self._loading[key].add_done_callback(lambda task: self._loaded(key, task))
        # Cancelling one job must not cancel the prompt for the others that wait for it.
        return await asyncio.shield(self._loading[key])

    async def store(self, request: Request, voice: Voice) -> None:
        """Store the prompt with its reference, unless it is stored or the voice was deleted."""
        async with voice.storing:
            if voice.stored or not await self._is_current(request):
                return
            bucket, key = self._resources.bucket_of(request.source), layout.reference(request).embedding
            await bucket.put(key, voice.prompt.to_json(), JSON)
            if await self._is_current(request):
                voice.stored = True
            else:  # deleted meanwhile
                await bucket.delete_versions([version async for version in bucket.list_versions(key)])

    def drop_revoked(self) -> None:
        """Drop the cached prompts of revoked references."""
        for key in [key for key in self._cache if self._revocations.covers(key[0])]:
            del self._cache[key]

    async def _load(self, request: Request, *, maybe_stored: bool) -> Voice:
        stored = await self._stored(request) if maybe_stored else None
        if stored is not None:
            return Voice(stored, stored=True)
        return Voice(await self._engine.make_prompt(await self._reference(request)), stored=False)

    async def _stored(self, request: Request) -> VoicePrompt | None:
        key = layout.reference(request).embedding
        document = await self._resources.bucket_of(request.source).get(key)
        if document is None:
            return None
        try:
            return await self._engine.restore_prompt(document)
        except PromptRejected as error:
            log.warning("stored prompt rejected, making it again", key=key, reason=error.message)
            return None

    async def _reference(self, request: Request) -> Reference:
        keys, bucket = layout.reference(request), self._resources.bucket_of(request.source)
        if request.new_reference is not None:
            body, transcription = await bucket.get(keys.audio), request.new_reference.transcription
        else:
            body, text = await asyncio.gather(bucket.get(keys.audio), bucket.get(keys.transcription))
            transcription = (text or b"").decode()
        if body is None:
            raise _no_reference(request, self._resources)
        return Reference(await asyncio.to_thread(reference_audio.decode_wav, body), transcription)

    async def _is_current(self, request: Request) -> bool:
        """Return whether the reference is still the one that the prompt was created from."""
        if self._revocations.covers(layout.reference(request).folder):
            return False
        if request.source.voice_id is None:
            return True
        body = await self._resources.voices.get(
            layout.voice(request.source.owner, request.source.voice_id).metadata
        )
        if body is None:
            return False
        metadata = VoiceMetadata.model_validate_json(body)
        return metadata.status != "deleting" and metadata.reference_id == request.reference_id

    def _loaded(self, key: _Key, loading: asyncio.Task[Voice]) -> None:
        del self._loading[key]
        if loading.cancelled() or loading.exception() is not None:
            return
        if self._revocations.covers(key[0]):
            return
        self._cache[key] = loading.result()
        self._cache.move_to_end(key)
        while len(self._cache) > self._resources.settings.prompt_cache_size:
            self._cache.popitem(last=False)


def _identity(request: Request) -> _Key:
    """Return the key of the recording: a voice may be deleted and another saved under its id."""
    return layout.reference(request).folder, request.reference_id


def _no_reference(request: Request, resources: Resources) -> PipelineError:
    source, settings = request.source, resources.settings
    if source.session_id is None:
        return NotFound("The voice was deleted before the job started. Save it again.", field="voice_id")
    if retention.upload_expires_at(source.session_id, settings) <= resources.clock():
        hours = settings.upload_retention_hours
        return Expired(
            f"The session has expired: recordings are kept for {hours:g} hours. Upload it again.",
            field="session_id",
        )
    return NotFound("The session has no recording. Upload one first.", field="session_id")
