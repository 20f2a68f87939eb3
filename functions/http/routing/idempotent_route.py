"""Routes whose requests can be repeated with an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header)."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from fastapi import params
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from functions.http.responses import problems
from functions.http.routing.authorized_route import AuthorizedRoute, Handler
from functions.http.routing.strict_request import StrictRequest
from functions.http.services import services_of
from pipeline.access import idempotency
from pipeline.access.api_keys import Caller
from pipeline.access.idempotency import Claim, StoredAnswer
from pipeline.clients import deadlines
from pipeline.domain import acceptance, jobs
from pipeline.domain.revocation import derived
from pipeline.errors import IdempotencyKeyReused, InvalidInput, RequestInProgress, Unavailable

log = structlog.get_logger(__name__)

HEADER = "Idempotency-Key"
KEY_MAX = 255
_VISIBLE = r"[!#-\[\]-~]"
_ANY = r"[ !#-\[\]-~]"
_QUOTED, _PLAIN = rf"{_ANY}{{1,{KEY_MAX}}}", rf"{_VISIBLE}(?:{_ANY}{{0,{KEY_MAX - 2}}}{_VISIBLE})?"
_KEY = re.compile(f'"(?P<quoted>{_QUOTED})"|(?P<plain>{_PLAIN})')

# A request ends by its deadline. The margin allows for clocks of other processes that are ahead.
_LEASE_MARGIN = timedelta(seconds=10)
_CHUNK_BYTES = 1024 * 1024

_PARAMETER = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "The first request with a key creates the resource; repeats within a day get the same response",
    "schema": {"type": "string", "minLength": 1, "pattern": f'^("{_QUOTED}"|{_PLAIN})$'},
}


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The state of a request's `Idempotency-Key`; empty if it has none."""

    claim: Claim | None = None
    """The claim that the handler stores its job in."""
    existing_job_id: str | None = None
    """The job that an earlier request with the same key has created: the handler joins it."""


def idempotency_of(request: Request) -> Idempotency:
    """Return the state of a request's key, for the handler of an `IdempotentRoute`."""
    idempotency: Idempotency = getattr(request.state, "idempotency", Idempotency())
    return idempotency


async def mark_answer(request: Request, reference_id: str) -> None:
    """Record that the response is about a reference, so that a revocation deletes the stored response."""
    if claim := idempotency_of(request).claim:
        await derived.mark_response(claim.resources, reference_id, claim.key)


class IdempotentRoute(AuthorizedRoute):
    """A route that creates a resource at most once per key; GET and DELETE ignore the key."""

    creates_jobs = False

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        if "POST" in (more.get("methods") or ()):
            more["openapi_extra"] = {**(more.get("openapi_extra") or {}), "parameters": [_PARAMETER]}
            refusals = problems.answers(IdempotencyKeyReused.code, RequestInProgress.code)
            more["responses"] = {**refusals, **(more.get("responses") or {})}
        super().__init__(path, endpoint, **more)

    def get_strict_handler(self) -> Handler:
        """Return the handler, which claims the request's key first."""
        serve = super().get_strict_handler()

        async def keyed(request: Request) -> Response:
            header = request.headers.get(HEADER) if request.method == "POST" else None
            if header is None:
                return await serve(request)
            assert isinstance(request, StrictRequest)  # noqa: S101 - see `AuthorizedRoute`
            return await self._serve_once(request, parse_key(header), serve)

        return keyed

    async def _serve_once(self, request: StrictRequest, key: str, serve: Handler) -> Response:
        resources = services_of(request).resources
        caller: Caller = request.state.caller
        has_form = self.body_field is not None and isinstance(self.body_field.field_info, params.Form)
        lease = timedelta(seconds=deadlines.seconds_left()) + _LEASE_MARGIN
        try:
            fingerprint = await fingerprint_of(request, has_form=has_form)
            found = await idempotency.claim(resources, caller.owner, key, fingerprint, lease=lease)
        except BaseException:
            await request.close()
            raise
        if isinstance(found, Claim):
            return await self._serve_claimed(request, found, serve)
        if found.job_id is not None:
            request.state.idempotency = Idempotency(existing_job_id=found.job_id)
            return await serve(request)
        await request.close()
        assert found.answer is not None  # noqa: S101 - a finished request has either
        return Response(found.answer.body, found.answer.status, found.answer.headers)

    async def _serve_claimed(self, request: StrictRequest, claim: Claim, serve: Handler) -> Response:
        job_id = claim.record.job_id  # of an earlier request whose process has died
        is_accepted = job_id is not None and await acceptance.send_again(claim.resources, job_id)
        request.state.idempotency = Idempotency(claim, existing_job_id=job_id if is_accepted else None)
        try:
            response = await serve(request)
        except Exception as error:
            if not is_accepted:
                # A write may have succeeded although the storage did not respond: the next request looks for it.
                await _give_up(claim, is_unknown=isinstance(error, Unavailable))
            raise
        if is_accepted or (self.creates_jobs and response.headers.get("X-Job-Id")):
            await claim.finish(None)
        elif response.status_code < 400:
            await claim.finish(_stored(response))
        else:
            await _give_up(claim)
        return response


class JobRoute(IdempotentRoute):
    """A route that creates a job: a repeated request waits for the job instead of reading a stored response."""

    creates_jobs = True


async def _give_up(claim: Claim, *, is_unknown: bool = False) -> None:
    """Release a key. If the request may have succeeded, leave its claim to the next request with the key."""
    job_id = claim.record.job_id
    try:
        is_stored = job_id is not None and await jobs.read_envelope(claim.resources, job_id) is not None
        await (claim.end_lease() if is_stored or is_unknown else claim.release())
    except Unavailable as error:
        log.warning("idempotency key is held until its lease ends", reason=error.message)


def parse_key(header: str) -> str:
    """Return the key in a header: a string of RFC 9651, with or without its quotes.

    Raises
    ------
    InvalidInput
        It is empty, too long, or has invalid characters.
    """
    match = _KEY.fullmatch(header)
    if match is None:
        raise InvalidInput(
            f"{HEADER} should have 1 to {KEY_MAX} printable ASCII characters without quotes and backslashes, "
            "such as a UUID.",
            field=HEADER,
        )
    return match["quoted"] or match["plain"]


async def fingerprint_of(request: StrictRequest, *, has_form: bool) -> str:
    """Return a digest of a request that does not depend on the boundary of a multipart form."""
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
