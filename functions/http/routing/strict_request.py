"""Strict parsing of bodies: JSON without duplicate keys, complete forms without repeated fields."""

from collections import Counter
from typing import Any

from fastapi import HTTPException, Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

from pipeline.contract.strict_json import parse_json

FILES_MAX = 1
FIELDS_MAX = 32
MULTIPART, URLENCODED = b"multipart/form-data", b"application/x-www-form-urlencoded"


class StrictRequest(Request):
    """A request that rejects malformed, truncated and ambiguous bodies with 400."""

    async def json(self) -> Any:
        """Return the parsed JSON body."""
        if not hasattr(self, "_json"):
            try:
                self._json = parse_json(await self.body())
            except ValueError as error:
                raise HTTPException(400, f"The body {error}") from error
        return self._json

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
            return await FormParser(self.headers, self.stream(), max_fields=FIELDS_MAX).parse()
        parser = _CompleteForm(self.headers, self.stream(), max_files=FILES_MAX, max_fields=FIELDS_MAX)
        form = await parser.parse()
        if not parser.is_complete:
            await form.close()
            raise MultiPartException("The form is truncated: it has no closing boundary.")
        return form


class _CompleteForm(MultiPartParser):
    """A parser that records whether the closing boundary was received."""

    is_complete = False

    def on_end(self) -> None:
        self.is_complete = True


async def _reject_duplicates(form: FormData) -> None:
    name, times = Counter(name for name, _ in form.multi_items()).most_common(1)[0] if form else ("", 0)
    if times > 1:
        await form.close()
        raise HTTPException(400, f"The field {name[:64]!r} occurs {times} times; send it once.")
