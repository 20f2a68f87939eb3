"""The options of a synthesis, and how those of a request are checked."""

from collections.abc import Mapping

from pydantic import ConfigDict, Field, ValidationError, field_validator

from pipeline.contract.record import Record
from pipeline.contract.validation import message_of
from pipeline.errors import InvalidInput

# The languages of the model, by full English name; with `Auto` the model detects it.
LANGUAGES = (
    "Auto",
    "Chinese",
    "English",
    "French",
    "German",
    "Italian",
    "Japanese",
    "Korean",
    "Portuguese",
    "Russian",
    "Spanish",
)


class Options(Record):
    """Options of the synthesis; None: the model's default."""

    language: str = "Auto"
    seed: int | None = Field(None, ge=0, lt=2**53, description="the same seed gives the same audio")
    temperature: float | None = Field(None, ge=0, le=2, description="0 always takes the likeliest")
    top_k: int | None = Field(None, ge=0, le=4096, description="choose among so many; 0: among all")
    top_p: float | None = Field(None, gt=0, le=1, description="choose among those that make up this share")
    repetition_penalty: float | None = Field(None, ge=1, le=2, description="1: none")
    max_seconds: float | None = Field(None, ge=1, le=3600, description="longest audio; the rest is cut off")

    @field_validator("language", mode="before")
    @classmethod
    def _by_its_name(cls, value: object) -> object:
        names = {name.lower(): name for name in LANGUAGES}
        name = names.get(value.strip().lower()) if isinstance(value, str) else None
        if name is None:
            raise ValueError(f"should be one of {', '.join(LANGUAGES)}")
        return name


class _NoOtherOptions(Options):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def check_options(given: Mapping[str, object]) -> Options:
    """Return the options of a request, given in JSON's types or as the strings of a form.

    Raises
    ------
    InvalidInput
        One is unknown, or its value is not possible; `field` names it.
    """
    try:
        checked = _NoOtherOptions.model_validate(dict(given))
    except ValidationError as error:
        raise _wrong_option(error) from None
    return Options(**checked.model_dump())


def _wrong_option(error: ValidationError) -> InvalidInput:
    problem = error.errors()[0]
    # JSON can represent lone surrogates, which UTF-8, and so a response, can't.
    name = str(problem["loc"][0])[:64].encode("ascii", "backslashreplace").decode()
    if problem["type"] == "extra_forbidden":
        return InvalidInput(
            f"There is no option {name!r}; there are {', '.join(Options.model_fields)}.", field=name
        )
    return InvalidInput(f"{name} {message_of(problem)}.", field=name)
