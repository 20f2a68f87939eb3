"""Routes whose requests can be repeated with an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header)."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from fastapi import params
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from functions.http.responses import problems
from functions.http.routing.authorized_route import AuthorizedRoute, Handler
from functions.http.routing.strict_request import StrictRequest
from pipeline import deadlines
from pipeline.access import idempotency
from pipeline.access.api_keys import Caller
from pipeline.access.idempotency import Claim, ClaimRecord, StoredAnswer
from pipeline.clients.resources import Resources
from pipeline.domain import jobs
from pipeline.errors import IdempotencyKeyReused, InvalidInput, RequestInProgress

HEADER = "Idempotency-Key"
KEY_MAX = 255
_VISIBLE = r"[!#-\[\]-~]"
_ANY = r"[ !#-\[\]-~]"
_QUOTED, _PLAIN = rf"{_ANY}{{1,{KEY_MAX}}}", rf"{_VISIBLE}(?:{_ANY}{{0,{KEY_MAX - 2}}}{_VISIBLE})?"
_KEY = re.compile(f'"(?P<quoted>{_QUOTED})"|(?P<plain>{_PLAIN})')

# A request ends by its deadline; this is for the clocks of other processes, which may be ahead.
_LEASE_MARGIN = timedelta(seconds=10)
_CHUNK_BYTES = 1024 * 1024

_PARAMETER = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "The first request with a key makes something; those that repeat it within a day get its answer",
    "schema": {"type": "string", "minLength": 1, "pattern": f'^("{_QUOTED}"|{_PLAIN})$'},
}

Join = Callable[[Request, str], Awaitable[Response]]
"""Returns the response from the job that an earlier request has made."""


class IdempotentRoute(AuthorizedRoute):
    """A route that makes something at most once per key; a GET or DELETE on it needs no key."""

    join: Join | None = None

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        if "POST" in (more.get("methods") or ()):
            more["openapi_extra"] = {**(more.get("openapi_extra") or {}), "parameters": [_PARAMETER]}
            refusals = problems.answers(IdempotencyKeyReused.code, RequestInProgress.code)
            more["responses"] = {**refusals, **(more.get("responses") or {})}
        super().__init__(path, endpoint, **more)

    def get_strict_handler(self) -> Handler:
        """See `AuthorizedRoute`."""
        serve = super().get_strict_handler()

        async def keyed(request: Request) -> Response:
            given = request.headers.get(HEADER) if request.method == "POST" else None
            if given is None:
                return await serve(request)
            assert isinstance(request, StrictRequest)  # noqa: S101 - see `AuthorizedRoute`
            return await self._serve_once(request, parse_key(given), serve)

        return keyed

    async def _serve_once(self, request: StrictRequest, key: str, serve: Handler) -> Response:
        resources: Resources = request.app.state.resources
        caller: Caller = request.state.caller
        has_form = self.body_field is not None and isinstance(self.body_field.field_info, params.Form)
        lease = timedelta(seconds=deadlines.seconds_left()) + _LEASE_MARGIN
        try:
            fingerprint = await fingerprint_of(request, has_form=has_form)
            found = await idempotency.claim(resources, caller.owner, key, fingerprint, lease=lease)
        except BaseException:
            await request.close()
            raise
        if isinstance(found, ClaimRecord):
            await request.close()
            return await self._answer_again(request, found)
        return await self._serve_claimed(request, found, serve)

    async def _answer_again(self, request: Request, done: ClaimRecord) -> Response:
        if self.join is not None and done.job_id is not None:
            return await self.join(request, done.job_id)
        assert done.answer is not None  # noqa: S101 - a finished request has either
        return Response(done.answer.body, done.answer.status, done.answer.headers)

    async def _serve_claimed(self, request: StrictRequest, claim: Claim, serve: Handler) -> Response:
        if self.join and claim.record.job_id and await jobs.send_again(claim.resources, claim.record.job_id):
            await request.close()
            response = await self.join(request, claim.record.job_id)
            await claim.finish(None)
            return response
        request.state.idempotency_claim = claim
        try:
            response = await serve(request)
        except Exception:
            await claim.release()
            raise
        if self.join and response.headers.get("X-Job-Id"):
            await claim.finish(None)
        elif response.status_code < 400:
            await claim.finish(_stored(response))
        else:
            await claim.release()
        return response


def claim_of(request: Request) -> Claim | None:
    """Return the claim of a request's key, which its handler finishes; None if it has no key."""
    claim: Claim | None = getattr(request.state, "idempotency_claim", None)
    return claim


def parse_key(given: str) -> str:
    """Return the key in a header, which is a string of RFC 9651; without its quotes it is accepted too.

    Raises
    ------
    InvalidInput
        It is empty, too long, or has other characters.
    """
    match = _KEY.fullmatch(given)
    if match is None:
        raise InvalidInput(
            f"{HEADER} should have 1 to {KEY_MAX} printable ASCII characters without quotes and backslashes, "
            "such as a UUID.",
            field=HEADER,
        )
    return match["quoted"] or match["plain"]


async def fingerprint_of(request: StrictRequest, *, has_form: bool) -> str:
    """Return a digest of what a request asks for: equal for equal forms, whatever their multipart boundary."""
    digest = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    digest.update(await _digest_of_form(await request.form()) if has_form else await request.body())
    return digest.hexdigest()


async def _digest_of_form(form: FormData) -> bytes:
    digest = hashlib.sha256()
    for name, value in sorted(form.multi_items(), key=lambda item: item[0]):
        content = await _digest_of_file(value) if isinstance(value, UploadFile) else value.encode()
        for part in (name.encode(), content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


async def _digest_of_file(file: UploadFile) -> bytes:
    digest = hashlib.sha256()
    while chunk := await file.read(_CHUNK_BYTES):
        digest.update(chunk)
    await file.seek(0)
    return digest.digest()


def _stored(response: Response) -> StoredAnswer:
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return StoredAnswer(status=response.status_code, headers=headers, body=bytes(response.body).decode())
