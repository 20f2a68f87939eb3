"""The path prefix under which a proxy publishes the service, such as `/tts`.

A proxy may remove the prefix from the path of a request or keep it. Middleware between `PathPrefix` and
`RoutedPath` sees the path without the prefix. Routes see the scope that ASGI specifies: `root_path` is the prefix,
and `path` contains it.
"""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_STATE = "path_prefix"


class PathPrefix:
    """Remove the prefix from the path of requests, and add it to the paths in response headers.

    Parameters
    ----------
    root_path
        The prefix of requests whose scope has no `root_path`.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with a path without the prefix."""
        prefix = scope.get("root_path") or self._root_path
        if scope["type"] == "lifespan" or not prefix:
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path == prefix or path.startswith(f"{prefix}/"):
            path = path.removeprefix(prefix) or "/"
        state = {**scope.get("state", {}), _STATE: prefix}

        async def send_with_prefix(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add_prefix(MutableHeaders(scope=message), prefix)
            await send(message)

        await self._app({**scope, "path": path, "root_path": "", "state": state}, receive, send_with_prefix)


class RoutedPath:
    """Set `root_path` and `path` for the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the routes."""
        prefix = scope.get("state", {}).get(_STATE)
        if prefix:
            scope = {**scope, "path": prefix + scope["path"], "root_path": prefix}
        await self._app(scope, receive, send)


def _add_prefix(headers: MutableHeaders, prefix: str) -> None:
    for name in ("Location", "Content-Location"):
        value = headers.get(name, "")
        if value.startswith("/"):
            headers[name] = prefix + value
    if headers.get("Link", "").startswith("</"):
        headers["Link"] = headers["Link"].replace("</", f"<{prefix}/", 1)
