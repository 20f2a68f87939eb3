"""`/v1/models`: the model of this service, also under the names of OpenAI's speech models."""

from fastapi import APIRouter
from pydantic import BaseModel

from functions.http.responses import problems
from functions.http.routing.authorized_route import AuthorizedRoute, requires
from functions.http.routing.dependencies import FromResources
from pipeline.errors import NotFound
from pipeline.settings import Settings

router = APIRouter(prefix="/v1", tags=["openai"], route_class=AuthorizedRoute)

# The names that clients for OpenAI have built in.
ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")


class ModelView(BaseModel):
    """A model."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "voice-cloning"


class ModelList(BaseModel):
    """The models; `models` repeats them for Open WebUI."""

    object: str = "list"
    data: list[ModelView]
    models: list[ModelView]


def model_ids(settings: Settings) -> tuple[str, ...]:
    """Return the names of the models: that of the loaded one, and its aliases."""
    name = settings.qwen_tts_model_id if settings.tts_backend == "qwen" else settings.tts_backend
    return (name, *ALIASES)


def check_model(name: str, settings: Settings) -> None:
    """Raise an error unless a request may name this model.

    Raises
    ------
    NotFound
        There is no such model.
    """
    known = model_ids(settings)
    if name not in known and not name.startswith(f"{ALIASES[-1]}-"):  # also names with a date
        raise NotFound(f"There is no model {name[:64]!r}; there are {', '.join(known)}.", field="model")


@router.get("/models", responses=problems.answers(), openapi_extra=requires("preview"))
@router.get("/audio/models", responses=problems.answers(), openapi_extra=requires("preview"))
async def list_models(resources: FromResources) -> ModelList:
    """List the models."""
    models = [ModelView(id=name) for name in model_ids(resources.settings)]
    return ModelList(data=models, models=models)


@router.get("/models/{model:path}", responses=problems.answers(NotFound.code), openapi_extra=requires("preview"))
async def get_model(model: str, resources: FromResources) -> ModelView:
    """Return one model."""
    check_model(model, resources.settings)
    return ModelView(id=model)
