"""`/v1/models`: the model of this service, and the names of OpenAI's speech models as aliases."""

import re

from fastapi import APIRouter
from pydantic import BaseModel, Field

from functions.http.openai.voice_lookup import all_voices
from functions.http.routing.authorized_route import AuthorizedRoute, ListRoute, public, route_options
from functions.http.routing.dependencies import FromCaller, FromResources
from pipeline.contract.engines import ENGINES
from pipeline.errors import NotFound, Unavailable
from pipeline.settings import Settings

# OpenAI's speech models, which many clients use by default.
ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
_PROVIDER = "openai/"
_DATED = re.compile(rf"({'|'.join(ALIASES)})-\d[\d-]*")  # such as tts-1-1106


router = APIRouter(prefix="/v1", tags=["openai"], route_class=AuthorizedRoute)
public_router = APIRouter(prefix="/v1", tags=["openai"], route_class=ListRoute)


class ModelView(BaseModel):
    """A model."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "voice-cloning"
    description: str | None = Field(None, description="The output of the engine, where it is not a cloned voice")


class ModelList(BaseModel):
    """The list of models.  `models` is the same list for Open WebUI."""

    object: str = "list"
    data: list[ModelView]
    models: list[ModelView]


class VoiceName(BaseModel):
    """A voice in the format of Speaches."""

    name: str


class ModelWithVoices(ModelView):
    """A model and the ids of the saved voices, as in Speaches."""

    voices: list[VoiceName] = Field(description="For wyoming-openai")


class Status(BaseModel):
    """The response to a probe."""

    status: str = "ok"


def model_ids(settings: Settings) -> tuple[str, ...]:
    """Return the name of the loaded model and its aliases."""
    name = settings.qwen_tts_model_id if settings.tts_backend == "qwen" else settings.tts_backend
    return (name, *ALIASES)


def check_model(name: str, settings: Settings) -> None:
    """Check that a model exists.

    Raises
    ------
    NotFound
        It does not exist.
    """
    known, alias = model_ids(settings), name.removeprefix(_PROVIDER)
    if name not in known and alias not in ALIASES and not _DATED.fullmatch(alias):
        raise NotFound(f"There is no model {name[:64]!r}. The models are {', '.join(known)}.", field="model")


@router.get("/models", **route_options("preview"))
@public_router.get("/audio/models", operation_id="openaiListAudioModels", **route_options("preview"))
async def list_models(resources: FromResources) -> ModelList:
    """List the models."""
    notice = ENGINES[resources.settings.tts_backend].notice
    models = [ModelView(id=name, description=notice) for name in model_ids(resources.settings)]
    return ModelList(data=models, models=models)


@router.get("/models/{model:path}", **route_options("preview", NotFound, Unavailable))
async def get_model(model: str, caller: FromCaller, resources: FromResources) -> ModelWithVoices:
    """Return one model, with the saved voices."""
    check_model(model, resources.settings)
    saved = await all_voices(resources, caller.owner)
    notice = ENGINES[resources.settings.tts_backend].notice
    return ModelWithVoices(id=model, description=notice, voices=[VoiceName(name=voice.voice_id) for voice in saved])


@router.get("/test", openapi_extra=public())
async def probe() -> Status:
    """Return that the service is running.  `wyoming-openai` reads the list of voices if this route exists."""
    return Status()
