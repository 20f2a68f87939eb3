"""`/v1/audio/voices`: saved voices, in the formats of OpenAI, Open WebUI and vLLM."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Request, UploadFile
from pydantic import BaseModel, Field

from functions.http.openai.recordings import check_recording
from functions.http.openai.voice_lookup import all_voices, with_name
from functions.http.routing.authorized_route import ListRoute, route_options
from functions.http.routing.dependencies import FromCaller, FromResources, FromServices
from functions.http.routing.idempotent_route import IdempotentRoute, mark_answer
from functions.previews.reference_checks import ensure_checked
from pipeline.access.owners import new_id
from pipeline.contract.records import VoiceMetadata
from pipeline.domain import sessions, voice_changes, voice_names, voices
from pipeline.domain.consents import recorded
from pipeline.domain.revocation.revoke import revoke_voice
from pipeline.errors import (
    ConsentRequired,
    InvalidAudio,
    InvalidInput,
    NameTaken,
    NotFound,
    TooLarge,
    Unavailable,
)
from pipeline.settings import FALLBACK_ALIAS

router = APIRouter(prefix="/v1", tags=["openai"], route_class=IdempotentRoute)
public_router = APIRouter(prefix="/v1", tags=["openai"], route_class=ListRoute)

# Includes OpenAI's ids, so that an unknown id is not stored as the text of a consent.
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
    """A voice in the format of vLLM."""

    name: str
    consent: str | None
    created_at: int
    mime_type: Literal["audio/wav"] = "audio/wav"


class VoiceList(BaseModel):
    """The saved voices: `data` for OpenAI's clients, `voices` for Open WebUI, `uploaded_voices` for vLLM."""

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


@public_router.get("/audio/voices", **route_options("preview", Unavailable))
async def list_voices(caller: FromCaller, resources: FromResources) -> VoiceList:
    """List all saved voices in the order of their ids, and the aliases in `VOICE_ALIASES`."""
    aliases = {
        alias: target for alias, target in resources.settings.aliases_of_voices.items() if alias != FALLBACK_ALIAS
    }
    if not caller.may("preview"):
        return VoiceList(
            data=[], voices=[NamedVoice(id=alias, name=alias) for alias in aliases], uploaded_voices=[]
        )
    saved = await all_voices(resources, caller.owner)
    ids = {voice.voice_id for voice in saved}
    usable = [alias for alias, target in aliases.items() if alias not in ids and with_name(saved, target)]
    return VoiceList(
        data=[_view(voice) for voice in saved],
        voices=[NamedVoice(id=voice.voice_id, name=voice.name) for voice in saved]
        + [NamedVoice(id=alias, name=alias) for alias in usable],
        uploaded_voices=[_uploaded(voice) for voice in saved],
    )


@router.get("/audio/voices/{voice_id}", **route_options("preview", NotFound, Unavailable))
async def get_voice(voice_id: str, caller: FromCaller, resources: FromResources) -> VoiceView:
    """Return one voice."""
    return _view(await voices.get(resources, caller.owner, voice_id))


@router.post(
    "/audio/voices",
    **route_options(
        "voices:write", InvalidInput, InvalidAudio, TooLarge, NotFound, NameTaken, ConsentRequired, Unavailable
    ),
)
async def create_voice(
    caller: FromCaller,
    services: FromServices,
    request: Request,
    name: Annotated[str, Form(description="A unique name")],
    audio_sample: Annotated[UploadFile, File(description="The recording: WAV, FLAC, OGG or MP3")],
    consent: Annotated[str, Form(description="The id of a voice consent, or the text of the consent")],
    ref_text: Annotated[str, Form(description="Extension: the transcription of the recording")] = "",
    type_: Annotated[Literal["audio_sample"], Form(alias="type")] = "audio_sample",
) -> VoiceView:
    """Save the voice of a recording."""
    resources, name = services.resources, voice_names.check_name(name)
    transcription = sessions.check_transcription(ref_text, resources.settings, field="ref_text")
    voice_names.check_consent(consent)
    consent_id = consent if _CONSENT_ID.fullmatch(consent) else None
    if consent_id:
        await recorded.get(resources, caller.owner, consent_id)
    recording = await check_recording(resources, audio_sample.read, field="audio_sample")
    session_id = new_id(resources.new_id, caller.owner)
    await mark_answer(request, session_id)
    await sessions.store(resources, caller.owner, session_id, recording, transcription)
    await ensure_checked(resources, services.waiters, caller.owner, session_id)
    saved = await voice_changes.save(
        resources, caller.owner, session_id, name, consent="" if consent_id else consent, consent_id=consent_id
    )
    return _view(saved)


@router.delete("/audio/voices/{voice_id}", **route_options("voices:write", NotFound, Unavailable))
async def delete_voice(voice_id: str, caller: FromCaller, resources: FromResources) -> DeletedVoice:
    """Delete a voice and everything made from it, such as its previews and the consent that is stored with it."""
    await revoke_voice(resources, caller.owner, voice_id, "deleted")
    return DeletedVoice(id=voice_id)


def _view(voice: VoiceMetadata) -> VoiceView:
    return VoiceView(id=voice.voice_id, created_at=int(voice.created_at.timestamp()), name=voice.name)


def _uploaded(voice: VoiceMetadata) -> UploadedVoice:
    consent = voice.consent.text if voice.consent else None
    return UploadedVoice(name=voice.name, consent=consent, created_at=int(voice.created_at.timestamp()))
