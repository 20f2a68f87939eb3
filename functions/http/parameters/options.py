"""The options of the synthesis as form fields, one for each field of `Options`.

Other fields are rejected, so that a misspelt option is not ignored.
"""

from inspect import Parameter, Signature
from typing import Annotated, Any

from fastapi import Depends, Form
from starlette.requests import Request

from pipeline.contract.options import check_options
from pipeline.contract.records import Options
from pipeline.errors import InvalidInput


async def _options(**given: Any) -> Options:
    return check_options({name: value for name, value in given.items() if value is not None})


# FastAPI derives a route's parameters and their description from the signature.
_options.__signature__ = Signature(  # type: ignore[attr-defined]
    [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[field.rebuild_annotation(), Form(description=field.description)],
        )
        for name, field in Options.model_fields.items()
    ]
)


async def _no_other_fields(request: Request) -> None:
    known = set(request.scope["route"].body_field.field_info.annotation.model_fields)
    for name in await request.form():
        if name not in known:
            raise InvalidInput(
                f"Unknown field {name[:64]!r}; the fields are {', '.join(sorted(known))}.", field=name
            )


FromOptions = Annotated[Options, Depends(_options)]
NoOtherFields = Depends(_no_other_fields)
