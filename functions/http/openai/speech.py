"""`/v1/audio/speech`: synthesis with a saved voice, or with a recording that the request holds."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from functions.http.openai.models import check_model
from functions.http.openai.recordings import check_recording, decode_base64
from functions.http.openai.speech_events import MEDIA_TYPE, as_events
from functions.http.openai.voice_lookup import find_voice
from functions.http.responses import problems
from functions.http.routes.previews.answers import Answering, Wishes
from functions.http.routing.authorized_route import AuthorizedRoute, requires
from functions.http.routing.dependencies import FromCaller, FromQueueDepth, FromResources, FromWaiters
from functions.previews.requests import ReferenceAt, WholeText, preview_request
from pipeline.access.owners import new_id
from pipeline.audio.output_formats import FASTEST, FORMATS, SLOWEST, FormatName
from pipeline.clients.resources import Resources
from pipeline.contract import layout, records
from pipeline.contract.options import Options, check_options
from pipeline.domain import jobs, sessions
from pipeline.errors import (
    DeadlineExceeded,
    Expired,
    InvalidInput,
    NotFound,
    SynthesisFailed,
    TooLarge,
    TooMany,
    Unavailable,
)
from pipeline.ids import Owner
from pipeline.logs import current_correlation_id

router = APIRouter(prefix="/v1", tags=["openai"], route_class=AuthorizedRoute)

INPUT_MAX = 4096
WARNING = "X-Warning"

_CONTENT: dict[str, Any] = {
    format_.media_type: {"schema": {"type": "string", "format": "binary"}} for format_ in FORMATS.values()
} | {MEDIA_TYPE: {"schema": {"type": "string"}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The audio, sent while it is made; or events with it",
        "content": _CONTENT,
        "headers": {
            "X-Job-Id": {"description": "The job that made it", "schema": {"type": "string"}},
            WARNING: {"description": "What had no effect", "schema": {"type": "string"}},
        },
    },
    303: {"description": "The audio is larger than a response may be; it is at `Location`"},
    **problems.answers(
        NotFound.code,
        InvalidInput.code,
        TooLarge.code,
        Expired.code,
        TooMany.code,
        SynthesisFailed.code,
        DeadlineExceeded.code,
        Unavailable.code,
        "cancelled",
    ),
}


class VoiceId(BaseModel):
    """A voice, by its id."""

    id: WholeText


class SpeechRequest(BaseModel):
    """What to say, and how; fields that are not known have no effect, and are named in `X-Warning`."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: WholeText
    input: Annotated[WholeText, Field(min_length=1, max_length=INPUT_MAX, description="The text")]
    voice: WholeText | VoiceId | None = Field(None, description="A saved voice's id or name")
    response_format: FormatName | None = Field(None, description="`mp3` if not given; `pcm`: 24 kHz, 16 bits")
    speed: Annotated[float, Field(ge=SLOWEST, le=FASTEST)] | None = Field(
        None, description="1 if not given; the pitch stays"
    )
    instructions: WholeText | None = Field(None, description="Accepted, but the model has no use for them")
    stream_format: Literal["audio", "sse"] | None = Field(None, description="`audio` if not given")
    language: WholeText | None = Field(None, description="Not of OpenAI: see `/preview`")
    seed: int | None = Field(None, description="Not of OpenAI: see `/preview`")
    ref_audio: str | None = Field(
        None, description="Not of OpenAI: in place of `voice`, a recording in base64 or as a `data:` URL"
    )
    ref_text: WholeText | None = Field(None, description="Not of OpenAI: what is said in it")

    def options(self) -> Options:
        """Return the options of the synthesis."""
        given = {"language": self.language, "seed": self.seed}
        return check_options({name: value for name, value in given.items() if value is not None})

    def warnings(self) -> list[str]:
        """Return what had no effect."""
        ignored = ["instructions"] if self.instructions else []
        ignored += [name[:64].encode("ascii", "backslashreplace").decode() for name in self.model_extra or {}]
        return [f"{name} has no effect" for name in ignored if name.isprintable()]


@router.post("/audio/speech", response_class=Response, responses=_RESPONSES, openapi_extra=requires("preview"))
async def create_speech(
    speech: SpeechRequest,
    caller: FromCaller,
    resources: FromResources,
    waiters: FromWaiters,
    queue_depth: FromQueueDepth,
) -> Response:
    """Synthesize a text, as OpenAI's route of this name does."""
    check_model(speech.model, resources.settings)
    text = jobs.check_text(speech.input, resources.settings, field="input")
    format_ = replace(FORMATS[speech.response_format or "mp3"], speed=speech.speed or 1.0)
    answering = Answering(resources, waiters, queue_depth, Wishes((), format_, stream=True))
    answer = await _answer(answering, speech, caller.owner, text)
    if answer.status_code == 202:
        answer = _not_in_time(answer, resources)
    elif answer.status_code == 200 and speech.stream_format == "sse":
        answer = as_events(answer, resources, answer.headers["X-Job-Id"], text)
    if warnings := speech.warnings():
        answer.headers[WARNING] = "; ".join(warnings)[:1024]
    return answer


async def _answer(answering: Answering, speech: SpeechRequest, owner: Owner, text: str) -> Response:
    resources, options = answering.resources, speech.options()
    if (speech.voice is None) == (speech.ref_audio is None):
        raise InvalidInput("Give either voice, a saved voice, or ref_audio, a recording.", field="voice")
    if speech.ref_audio is None:
        named = speech.voice.id if isinstance(speech.voice, VoiceId) else speech.voice or ""
        voice = await find_voice(resources, owner, named)
        source = records.Source(voice_id=voice.voice_id, owner=owner)
        reference = ReferenceAt(voice.reference_id, layout.voice_files(voice).folder)
        request = preview_request(
            resources, source, reference, text, options, correlation_id=current_correlation_id()
        )
        return await answering.respond(request)
    return await _from_recording(answering, speech, owner, text, options)


async def _from_recording(
    answering: Answering, speech: SpeechRequest, owner: Owner, text: str, options: Options
) -> Response:
    resources = answering.resources
    said = sessions.check_transcription(speech.ref_text or "", resources.settings)
    data = decode_base64(speech.ref_audio or "", field="ref_audio")

    async def read() -> bytes:
        return data

    recording = await check_recording(resources, read, field="ref_audio")
    session_id = new_id(resources.new_id, owner)
    request = preview_request(
        resources,
        records.Source(session_id=session_id, owner=owner),
        ReferenceAt(session_id),
        text,
        options,
        correlation_id=current_correlation_id(),
        new_reference=records.NewReference(transcription=said),
    )
    return await answering.respond(
        request, sessions.objects(session_id, recording, said), reference_seconds=recording.duration_seconds
    )


def _not_in_time(accepted: Response, resources: Resources) -> Response:
    """Return an error in place of the job that continues, which OpenAI's API does not know."""
    seconds = resources.settings.preview_wait_seconds
    return problems.response(
        503,
        "not_ready",
        f"The audio was not ready within {seconds:g} seconds; send the same request again.",
        job_id=accepted.headers["X-Job-Id"],
        retry_after=int(accepted.headers["Retry-After"]),
    )
