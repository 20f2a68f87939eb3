"""The check of the synthesis options of a request."""

from collections.abc import Mapping

from pydantic import ConfigDict, ValidationError

from pipeline.contract.records import Options
from pipeline.errors import InvalidInput, validation_message


class _NoOtherOptions(Options):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def check_options(given: Mapping[str, object]) -> Options:
    """Return the options of a request, given in JSON's types or as the strings of a form.

    Raises
    ------
    InvalidInput
        An option is unknown, or its value is not valid. `field` is its name.
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
            f"There is no option {name!r}. The options are {', '.join(Options.model_fields)}.", field=name
        )
    return InvalidInput(f"{name} {validation_message(problem)}.", field=name)
