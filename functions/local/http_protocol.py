"""The API's HTTP/1.1 under uvicorn, with limits as those of API Gateway in the cloud, and errors as problems."""

from typing import Any

from functions.http.middleware.deadline import FIRST_BYTE_AT
from functions.http.middleware.security_headers import HEADERS
from functions.http.responses import problems
from functions.local.limited_http import LimitedHttpProtocol

ON_SHUTDOWN = "on_shutdown"
"""The key in the lifespan state for the function to call when the server begins to stop."""


MAX_CONNECTIONS = "max_connections"
"""The key in the lifespan state for the limit of open connections."""


class HttpProtocol(LimitedHttpProtocol):
    """HTTP/1.1 of the API."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.max_connections = self.app_state.get(MAX_CONNECTIONS, self.max_connections)

    def on_request_begins(self) -> None:
        """Store when the request began, for its deadline."""
        self.app_state = self.app_state | {FIRST_BYTE_AT: self.loop.time()}

    def error_response(self, status: int, code: str, message: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Return the headers and body of a problem response."""
        response = problems.response(status, code, message)
        response.headers.update(HEADERS)
        return response.raw_headers, bytes(response.body)

    def shutdown(self) -> None:
        """Close the connection once the request that is being served has its response."""
        super().shutdown()
        if on_shutdown := self.app_state.get(ON_SHUTDOWN):
            on_shutdown()
