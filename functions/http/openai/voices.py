"""`/v1/audio/voices`: saved voices, as OpenAI's clients and those of vLLM list, make and delete them."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, UploadFile
from pydantic import BaseModel, Field

from functions.http.openai.recordings import check_recording
from functions.http.openai.voice_lookup import all_voices
from functions.http.responses import problems
from functions.http.routing.authorized_route import requires
from functions.http.routing.dependencies import FromCaller, FromResources
from functions.http.routing.idempotent_route import IdempotentRoute
from pipeline.access.owners import new_id
from pipeline.clients.resources import Resources
from pipeline.contract.records import VoiceMetadata
from pipeline.domain import sessions, voice_changes, voice_consents, voice_names, voices
from pipeline.errors import InvalidAudio, InvalidInput, NameTaken, NotFound, TooLarge, Unavailable
from pipeline.ids import Owner

router = APIRouter(prefix="/v1", tags=["openai"], route_class=IdempotentRoute)

# Also of OpenAI's own, so that a consent which is not stored here is not taken for its words.
_CONSENT_ID = re.compile(r"[0-9a-f]{32}|cons_\w+")


class VoiceView(BaseModel):
    """A saved voice."""

    id: str
    object: Literal["audio.voice"] = "audio.voice"
    created_at: int = Field(description="Seconds since 1970")
    name: str
    type: Literal["audio_sample"] = "audio_sample"


class NamedVoice(BaseModel):
    """A voice's id and name."""

    id: str
    name: str


class UploadedVoice(BaseModel):
    """A voice as vLLM lists it."""

    name: str
    consent: str | None
    created_at: int
    mime_type: Literal["audio/wav"] = "audio/wav"


class VoiceList(BaseModel):
    """The saved voices, three times: for OpenAI's clients, for Open WebUI, and for those of vLLM."""

    object: Literal["list"] = "list"
    data: list[VoiceView]
    voices: list[NamedVoice]
    uploaded_voices: list[UploadedVoice]
    has_more: bool = False


class DeletedVoice(BaseModel):
    """The confirmation that a voice was deleted."""

    id: str
    object: Literal["audio.voice.deleted"] = "audio.voice.deleted"
    deleted: bool = True


@router.get("/audio/voices", responses=problems.answers(Unavailable.code), openapi_extra=requires("preview"))
async def list_voices(caller: FromCaller, resources: FromResources) -> VoiceList:
    """List all saved voices, in the order of their ids."""
    found = await all_voices(resources, caller.owner)
    return VoiceList(
        data=[_view(voice) for voice in found],
        voices=[NamedVoice(id=voice.voice_id, name=voice.name) for voice in found],
        uploaded_voices=[_uploaded(voice) for voice in found],
    )


@router.get(
    "/audio/voices/{voice_id}",
    responses=problems.answers(NotFound.code, Unavailable.code),
    openapi_extra=requires("preview"),
)
async def get_voice(voice_id: str, caller: FromCaller, resources: FromResources) -> VoiceView:
    """Return one voice."""
    return _view(await voices.get(resources, caller.owner, voice_id))


@router.post(
    "/audio/voices",
    responses=problems.answers(
        InvalidInput.code,
        InvalidAudio.code,
        TooLarge.code,
        NotFound.code,
        NameTaken.code,
        Unavailable.code,
    ),
    openapi_extra=requires("voices:write"),
)
async def create_voice(
    caller: FromCaller,
    resources: FromResources,
    name: Annotated[str, Form(description="A name that no other voice has")],
    audio_sample: Annotated[UploadFile, File(description="The recording: WAV, FLAC, OGG or MP3")],
    consent: Annotated[
        str, Form(description="The id of a voice consent, or the words by which the speaker agreed")
    ],
    ref_text: Annotated[str, Form(description="Not of OpenAI: what is said in the recording")] = "",
    type_: Annotated[Literal["audio_sample"], Form(alias="type")] = "audio_sample",
) -> VoiceView:
    """Save the voice of a recording under a name."""
    name = voice_names.check_name(name)
    said = sessions.check_transcription(ref_text, resources.settings)
    words, consent_recording = await _consent(resources, caller.owner, consent)
    recording = await check_recording(resources, audio_sample.read, field="audio_sample")
    session_id = new_id(resources.new_id, caller.owner)
    await sessions.store(resources, caller.owner, session_id, recording, said)
    saved = await voice_changes.save(
        resources, caller.owner, session_id, name, consent=words, consent_recording=consent_recording
    )
    return _view(saved)


@router.delete(
    "/audio/voices/{voice_id}",
    responses=problems.answers(NotFound.code, Unavailable.code),
    openapi_extra=requires("voices:write"),
)
async def delete_voice(voice_id: str, caller: FromCaller, resources: FromResources) -> DeletedVoice:
    """Delete a voice, and the consent that is kept with it."""
    await voice_changes.delete(resources, caller.owner, voice_id)
    return DeletedVoice(id=voice_id)


async def _consent(resources: Resources, owner: Owner, given: str) -> tuple[str, bytes | None]:
    """Return the words of a consent and its recording, if `given` is the id of one; else `given`, the words."""
    if not _CONSENT_ID.fullmatch(given):
        return voice_names.check_consent(given), None
    stored = await voice_consents.get(resources, owner, given)
    return stored.words, await voice_consents.recording_of(resources, stored)


def _view(voice: VoiceMetadata) -> VoiceView:
    return VoiceView(id=voice.voice_id, created_at=int(voice.created_at.timestamp()), name=voice.name)


def _uploaded(voice: VoiceMetadata) -> UploadedVoice:
    consent = voice.consent.text if voice.consent else None
    return UploadedVoice(name=voice.name, consent=consent, created_at=int(voice.created_at.timestamp()))
