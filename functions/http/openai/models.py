"""`/v1/models`: the model of this service, and the names of OpenAI's speech models as aliases."""

from fastapi import APIRouter
from pydantic import BaseModel

from functions.http.routing.authorized_route import AuthorizedRoute, route_options
from functions.http.routing.dependencies import FromResources
from pipeline.errors import NotFound
from pipeline.settings import Settings

router = APIRouter(prefix="/v1", tags=["openai"], route_class=AuthorizedRoute)

# OpenAI's speech models, which many clients use by default.
ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")


class ModelView(BaseModel):
    """A model."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "voice-cloning"


class ModelList(BaseModel):
    """The list of models.  `models` is the same list for Open WebUI."""

    object: str = "list"
    data: list[ModelView]
    models: list[ModelView]


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
    known = model_ids(settings)
    is_dated = name.startswith(f"{ALIASES[-1]}-")  # such as gpt-4o-mini-tts-2025-12-15
    if name not in known and not is_dated:
        raise NotFound(f"There is no model {name[:64]!r}. The models are {', '.join(known)}.", field="model")


@router.get("/models", **route_options("preview"))
@router.get("/audio/models", **route_options("preview"))
async def list_models(resources: FromResources) -> ModelList:
    """List the models."""
    models = [ModelView(id=name) for name in model_ids(resources.settings)]
    return ModelList(data=models, models=models)


@router.get("/models/{model:path}", **route_options("preview", NotFound))
async def get_model(model: str, resources: FromResources) -> ModelView:
    """Return one model."""
    check_model(model, resources.settings)
    return ModelView(id=model)
