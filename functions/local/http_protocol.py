"""The API's HTTP/1.1 under uvicorn, with limits as those of API Gateway in the cloud, and errors as problems."""

from functions.http.middleware.deadline import FIRST_BYTE_AT
from functions.http.middleware.security_headers import HEADERS
from functions.http.responses import problems
from functions.local.limited_http import LimitedHttpProtocol

ON_SHUTDOWN = "on_shutdown"
"""The key in the lifespan state for the function to call when the server begins to stop."""


class HttpProtocol(LimitedHttpProtocol):
    """HTTP/1.1 of the API."""

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
