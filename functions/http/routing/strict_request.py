"""Strict parsing of bodies: JSON without duplicate keys, complete forms without repeated fields."""

from collections import Counter
from typing import Any
from urllib.parse import parse_qsl

from fastapi import HTTPException, Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Receive, Scope

from functions.http.routing.long_field import LongValue, split_body
from pipeline.contract.strict_json import check_values, parse_json

FILES_MAX = 1
FIELDS_MAX = 32
MULTIPART, URLENCODED = b"multipart/form-data", b"application/x-www-form-urlencoded"


class StrictRequest(Request):
    """A request that rejects malformed, truncated and ambiguous bodies with 400.

    Parameters
    ----------
    long_field
        The name of the JSON field that may be long. If it is, `body` has a digest in its place, and `json` a
        `LongValue`.
    """

    def __init__(self, scope: Scope, receive: Receive, *, long_field: str | None = None) -> None:
        super().__init__(scope, receive)
        self._long_field = long_field
        self._long_value: LongValue | None = None

    @property
    def has_json(self) -> bool:
        """Whether the media type of the body is JSON."""
        media_type, _ = parse_options_header(self.headers.get("content-type", ""))
        return media_type.startswith(b"application/") and media_type.endswith((b"/json", b"+json"))

    async def body(self) -> bytes:
        """Return the body, with a digest in place of a long value."""
        if not hasattr(self, "_body") and self._long_field is not None:
            split = await split_body(self.stream(), self._long_field)
            self._body, self._long_value = split.json, split.value
        return await super().body()

    async def json(self) -> Any:
        """Return the parsed JSON body.

        Raises
        ------
        InvalidInput
            A value can't be processed.
        """
        if not hasattr(self, "_json"):
            try:
                parsed = parse_json(await self.body())
            except ValueError as error:
                raise HTTPException(400, f"The body {error}") from error
            check_values(parsed)
            name, value = self._long_field, self._long_value
            if value is not None and isinstance(parsed, dict) and parsed.get(name) == value.digest:
                parsed[name] = value
            self._json = parsed
        return self._json

    def close_long_value(self) -> None:
        """Delete the temporary file of a long value."""
        if self._long_value is not None:
            self._long_value.close()

    async def form(self, **_limits: object) -> FormData:  # type: ignore[override]  # read with `await` alone
        """Return the parsed form; empty if there is no body."""
        if self._form is None:
            self._form = await self._read_form()
        return self._form

    async def _read_form(self) -> FormData:
        content_type, parameters = parse_options_header(self.headers.get("content-type", ""))
        if not content_type:
            return FormData()
        if content_type not in {MULTIPART, URLENCODED}:
            raise HTTPException(400, f"The body should be a form, sent as {MULTIPART.decode()}.")
        if parameters.get(b"charset", b"utf-8").lower() != b"utf-8":
            # The parser would use the Python codec of that name. Some have quadratic complexity.
            raise HTTPException(400, "The form should be in UTF-8.")
        try:
            form = await self._parse(content_type)
        except MultiPartException as error:
            raise HTTPException(400, error.message) from error
        await _reject_duplicates(form)
        return form

    async def _parse(self, content_type: bytes) -> FormData:
        if content_type == URLENCODED:
            return FormData(_parse_urlencoded(await self.body()))
        parser = _CompleteForm(self.headers, self.stream(), max_files=FILES_MAX, max_fields=FIELDS_MAX)
        form = await parser.parse()
        if not parser.is_complete:
            parser.close_files()
            raise MultiPartException("The form is truncated: it has no closing boundary.")
        return form


class _CompleteForm(MultiPartParser):
    """A parser that records whether the closing boundary was received."""

    is_complete = False

    def on_end(self) -> None:
        self.is_complete = True

    def close_files(self) -> None:
        """Close all files. A file that ends early is not in the form."""
        for file in self._files_to_close_on_error:
            file.close()


def _parse_urlencoded(body: bytes) -> list[tuple[str, str | UploadFile]]:
    # Not Starlette's parser, which takes half a microsecond for every byte.
    fields = body.count(b"&") + 1
    if fields > FIELDS_MAX:
        raise HTTPException(400, f"The form has {fields} fields; it should have at most {FIELDS_MAX}.")
    try:
        return [*parse_qsl(body.decode(), keep_blank_values=True, errors="strict")]
    except UnicodeDecodeError as error:
        raise HTTPException(400, "The form should be in UTF-8.") from error


async def _reject_duplicates(form: FormData) -> None:
    name, times = Counter(name for name, _ in form.multi_items()).most_common(1)[0] if form else ("", 0)
    if times > 1:
        await form.close()
        raise HTTPException(400, f"The field {name[:64]!r} occurs {times} times; send it once.")
