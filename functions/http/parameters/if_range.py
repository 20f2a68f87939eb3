"""`If-Range`, if it can be forwarded to the storage (RFC 9110, section 13.1.5)."""

import re
from typing import Annotated

from fastapi import Header
from pydantic import AfterValidator

# An entity tag in ASCII; those of the storage have no other characters.
_ETAG = re.compile(r'"[\x21\x23-\x7e]{0,256}"')


def _check(value: str | None) -> str | None:
    if value is not None and value.startswith('"') and not _ETAG.fullmatch(value):
        raise ValueError("should be an ETag as a preview has it, in double quotes, or a date")
    return value


IfRange = Annotated[str | None, AfterValidator(_check), Header(description="ETag that the range is of")]
