"""The body of a speech request, and the job that it creates."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from functions.http.openai.recordings import check_recording, decode_base64
from functions.http.openai.voice_lookup import find_voice
from functions.http.routing.long_field import LongValue
from functions.previews.requests import ReferenceAt, preview_request, reference_of
from pipeline.access.owners import new_id
from pipeline.access.webhook_receivers import check_webhook
from pipeline.audio.output_formats import FASTEST, SLOWEST, FormatName
from pipeline.clients.resources import Resources
from pipeline.clients.storage import NewObject
from pipeline.contract.options import check_options
from pipeline.contract.records import NewReference, Options, Request, Source
from pipeline.domain import acceptance, sessions
from pipeline.errors import InvalidInput
from pipeline.ids import Owner

INPUT_MAX = 4096


def _voice_name(voice: object) -> object:
    """Return the id or name of a voice that is given as `{"id": …}`, as OpenAI's clients do."""
    name = voice.get("id") if isinstance(voice, dict) else voice
    if voice is not None and not isinstance(name, str):
        raise ValueError('should be the id or name of a voice, or an object such as {"id": "nova"}')
    return name


def _ref_audio(value: object) -> str | LongValue | None:
    if value is not None and not isinstance(value, str | LongValue):
        raise ValueError("should be a string")
    return value


_STRING = {"type": "string"}
_STRING_OR_NULL = {"anyOf": [_STRING, {"type": "null"}]}
RefAudio = Annotated[str | LongValue | None, PlainValidator(_ref_audio), WithJsonSchema(_STRING_OR_NULL)]
_VOICE_SCHEMA = {"anyOf": [_STRING, {"type": "object", "properties": {"id": _STRING}, "required": ["id"]}]}


class SpeechRequest(BaseModel):
    """The body of a speech request.  Unknown fields have no effect; `X-Warning` lists them."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: str
    input: str = Field(min_length=1, max_length=INPUT_MAX, description="The text to speak")
    voice: Annotated[str | None, BeforeValidator(_voice_name), WithJsonSchema(_VOICE_SCHEMA)] = Field(
        None, description="The id, name or alias of a saved voice"
    )
    response_format: FormatName | None = Field(None, description="Default `mp3`; `pcm` is 24 kHz, 16 bits, mono")
    speed: Annotated[float, Field(ge=SLOWEST, le=FASTEST)] | None = Field(
        None, description="Default 1; does not change the pitch"
    )
    instructions: str | None = Field(None, description="Accepted without effect")
    stream_format: Literal["audio", "sse"] | None = Field(None, description="Default `audio`")
    language: str | None = Field(None, description="Extension: see `/preview`")
    seed: int | None = Field(None, description="Extension: see `/preview`")
    ref_audio: RefAudio = Field(
        None,
        description="Extension: a recording to clone, as base64 or a `data:` URL; takes precedence over `voice`",
    )
    ref_text: str | None = Field(None, description="Extension: the transcription of `ref_audio`")
    webhook_url: str | None = Field(None, description="Extension: see `/preview`")

    def options(self) -> Options:
        """Return the options of the synthesis."""
        given = {"language": self.language, "seed": self.seed}
        return check_options({name: value for name, value in given.items() if value is not None})

    def warnings(self) -> list[str]:
        """Return a warning for every field without effect."""
        ignored = ["instructions"] if self.instructions else []
        ignored += ["voice"] if self.voice and self.ref_audio is not None else []
        ignored += [name[:64].encode("ascii", "backslashreplace").decode() for name in self.model_extra or {}]
        return [f"{name} has no effect" for name in ignored if name.isprintable()]


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to accept, and the objects to store with it."""

    request: Request
    objects: Sequence[NewObject] = ()
    reference_seconds: float = 0


async def new_job(resources: Resources, speech: SpeechRequest, owner: Owner) -> NewJob:
    """Validate a request, and return the job that it creates.

    Raises
    ------
    InvalidInput, TooLarge, NotFound
        A field is not valid, or there is no such voice.
    """
    text = acceptance.check_text(speech.input, resources.settings, field="input")
    options = speech.options()
    if speech.voice is None and speech.ref_audio is None:
        raise InvalidInput(
            "The request should have voice, a saved voice, or ref_audio, a recording.", field="voice"
        )
    await check_webhook(resources, owner, speech.webhook_url)
    if speech.ref_audio is not None:
        return await _with_recording(resources, speech, speech.ref_audio, owner, text, options)
    voice = await find_voice(resources, owner, speech.voice or "")
    return NewJob(
        preview_request(
            resources,
            Source(voice_id=voice.voice_id, owner=owner),
            reference_of(voice),
            text,
            options,
            webhook_url=speech.webhook_url,
        )
    )


async def _with_recording(
    resources: Resources,
    speech: SpeechRequest,
    ref_audio: str | LongValue,
    owner: Owner,
    text: str,
    options: Options,
) -> NewJob:
    transcription = sessions.check_transcription(speech.ref_text or "", resources.settings, field="ref_text")

    async def read() -> bytes:
        return await asyncio.to_thread(decode_base64, ref_audio, field="ref_audio")

    recording = await check_recording(resources, read, field="ref_audio")
    session_id = new_id(resources.new_id, owner)
    request = preview_request(
        resources,
        Source(session_id=session_id, owner=owner),
        ReferenceAt(session_id),
        text,
        options,
        webhook_url=speech.webhook_url,
        new_reference=NewReference(transcription=transcription),
    )
    return NewJob(request, sessions.objects(session_id, recording, transcription), recording.duration_seconds)
