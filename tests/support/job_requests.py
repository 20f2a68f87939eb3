"""Jobs, written as the API writes them."""

from pipeline.audio.reference_audio import encoded
from pipeline.audio.wav import WAV
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import Failed, NewReference, Options, Request, Source, Succeeded, VoiceMetadata
from pipeline.domain import acceptance, jobs, sessions
from tests.support.speech import voice, voice_wav

TRANSCRIPTION = "What was said in the recording."
TEXT = "What the voice shall say."


def make_request(
    resources: Resources,
    source: Source,
    reference_id: str,
    *,
    text: str = TEXT,
    kind: str = "preview",
    correlation_id: str | None = None,
    is_new: bool = False,
) -> Request:
    """Return a request that is created now."""
    return Request.model_validate(
        {
            "job_id": resources.new_id(),
            "kind": kind,
            "source": source,
            "reference_id": reference_id,
            "text": text,
            "options": Options(),
            "created_at": resources.clock(),
            "correlation_id": correlation_id,
            "new_reference": NewReference(transcription=TRANSCRIPTION) if is_new else None,
        }
    )


async def store_upload(resources: Resources, *, pitch: float = 120) -> str:
    """Store a reference recording and return its session id."""
    session_id = resources.new_id()
    await sessions.store(resources, None, session_id, encoded(voice(pitch)), TRANSCRIPTION)
    return session_id


async def store_voice(resources: Resources, voice_id: str, *, pitch: float = 120) -> str:
    """Store or replace a saved voice without a prompt, and return the id of its reference."""
    keys, reference_id = layout.voice(None, voice_id), resources.new_id()
    metadata = VoiceMetadata(
        voice_id=voice_id,
        name=voice_id,
        created_at=resources.clock(),
        changed_at=resources.clock(),
        source_file=keys.audio,
        embedding_file=keys.embedding,
        status="ready",
        reference_id=reference_id,
    )
    await resources.voices.delete([keys.embedding, keys.transcription])
    await resources.voices.put(keys.audio, voice_wav(pitch), WAV)
    await resources.voices.put(keys.metadata, metadata.to_json(), JSON)
    return reference_id


async def submit_upload_job(resources: Resources, *, pitch: float = 120, text: str = TEXT) -> Request:
    """Accept a preview with a new reference, as `POST /preview` does."""
    session_id = resources.new_id()
    request = make_request(resources, Source(session_id=session_id), session_id, text=text, is_new=True)
    recording = encoded(voice(pitch))
    await acceptance.accept(resources, request, sessions.objects(session_id, recording, TRANSCRIPTION))
    return request


async def submit_session_job(resources: Resources, session_id: str, *, text: str = TEXT) -> Request:
    """Accept a preview of an earlier upload."""
    request = make_request(resources, Source(session_id=session_id), session_id, text=text)
    await acceptance.accept(resources, request)
    return request


async def submit_voice_job(resources: Resources, voice_id: str, reference_id: str, *, text: str = TEXT) -> Request:
    """Accept a preview of a saved voice."""
    request = make_request(resources, Source(voice_id=voice_id), reference_id, text=text)
    await acceptance.accept(resources, request)
    return request


async def success_of(resources: Resources, request: Request) -> Succeeded:
    """Return the outcome of a job, and assert that it succeeded."""
    outcome = await jobs.read_outcome(resources, request.job_id)
    assert isinstance(outcome, Succeeded), outcome
    return outcome


async def failure_of(resources: Resources, request: Request) -> Failed:
    """Return the outcome of a job, and assert that it failed."""
    outcome = await jobs.read_outcome(resources, request.job_id)
    assert isinstance(outcome, Failed), outcome
    return outcome
