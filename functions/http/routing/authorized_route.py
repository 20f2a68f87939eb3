"""Routes that declare the scope they need, and check it before the body is read."""

from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from fastapi import params
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from functions.http.responses import problems
from functions.http.routing.strict_request import StrictRequest
from functions.http.services import services_of
from pipeline.access.api_keys import Caller
from pipeline.contract.records import Scope
from pipeline.errors import PipelineError
from pipeline.settings import Settings

SCHEME = "key"
NOBODY = Caller(owner=None, key_id=None, scopes=frozenset())

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def requires(scope: Scope) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that needs a key with this scope; `AuthorizedRoute` enforces it."""
    return {"security": [{SCHEME: [scope]}]}


def route_options(scope: Scope, *errors: type[PipelineError]) -> dict[str, Any]:
    """Return the options of a route that needs a key with this scope and may return these errors."""
    return {"responses": problems.answers(*(error.code for error in errors)), "openapi_extra": requires(scope)}


def takes_key(scope: Scope) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that can be used without a key. A key needs this scope."""
    return {"security": [{SCHEME: [scope]}, {}]}


def public() -> dict[str, Any]:
    """Return the `openapi_extra` of a route that needs no key."""
    return {"security": []}


def operation_id(path: str, endpoint: Callable[..., Any]) -> str:
    """Return the id of an operation for generated clients: `createPreview` for the function `create_preview`."""
    prefix = ["openai"] if path.startswith("/v1/") else []
    first, *rest = [*prefix, *endpoint.__name__.split("_")]
    return first + "".join(word.capitalize() for word in rest)


class AuthorizedRoute(APIRoute):
    """A route that checks its scope; a route that does not declare one can't be created."""

    long_field: str | None = None
    """The name of a field of the JSON body that may be longer than a small body."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        options["operation_id"] = options.get("operation_id") or operation_id(path, endpoint)
        super().__init__(path, endpoint, **options)

    @property
    def scope(self) -> Scope | None:
        """The scope that a caller needs; None if no key is needed."""
        if self.openapi_extra is None or "security" not in self.openapi_extra:
            raise TypeError(f"{self.path} declares no scope: set openapi_extra=requires(…) or public()")
        security = self.openapi_extra["security"]
        scope: Scope | None = security[0][SCHEME][0] if security else None
        return scope

    def is_public(self, _settings: Settings) -> bool:
        """Return whether a request without a key is served, with `NOBODY` as the caller."""
        return False

    def get_strict_handler(self) -> Handler:
        """Return the handler of an authorized `StrictRequest`."""
        return super().get_route_handler()

    def get_route_handler(self) -> Handler:
        """Return the handler, which authenticates and authorizes the caller first."""
        scope, serve = self.scope, self.get_strict_handler()
        takes_json = self.body_field is not None and not isinstance(self.body_field.field_info, params.Form)

        async def serve_strict(request: Request) -> Response:
            strict = StrictRequest(request.scope, request.receive, long_field=self.long_field)
            try:
                if takes_json and strict.has_json and await strict.body():
                    await strict.json()  # here, because FastAPI converts every error to 400
                return await serve(strict)
            finally:
                strict.close_long_value()

        if scope is None:
            return serve_strict

        async def authorized(request: Request) -> Response:
            services = services_of(request)
            access_control, authorization = services.access_control, request.headers.get("authorization")
            if authorization is None and self.is_public(services.resources.settings):
                request.state.caller = NOBODY
                return await serve_strict(request)
            address = request.client.host if request.client else ""
            caller = await access_control.authenticate_key(authorization, address)
            request.state.caller = caller
            with structlog.contextvars.bound_contextvars(**({"key_id": caller.key_id} if caller.key_id else {})):
                request.state.quota_status = await access_control.authorize(caller, scope)
                return await serve_strict(request)

        return authorized


class ListRoute(AuthorizedRoute):
    """A list that is public if `LISTS_WITHOUT_KEY` is set.  For `NOBODY`, it must not contain data of owners."""

    def is_public(self, settings: Settings) -> bool:
        """Return whether a request without a key is served."""
        return settings.lists_without_key and settings.wants_keys
