"""Headers of trusted proxies: the client's address, the scheme, and the prefix of the path."""

import re
from typing import Any

from starlette.datastructures import Headers
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from pipeline.settings import ROOT_PATH


class ProxyHeaders(ProxyHeadersMiddleware):
    """Uvicorn's middleware for `X-Forwarded-For` and `X-Forwarded-Proto`, with `X-Forwarded-Prefix`.

    Only headers of the trusted proxies are used.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application with the scope that the proxy's headers describe."""
        client = scope.get("client")
        if scope["type"] != "lifespan" and client and client[0] in self.trusted_hosts:
            prefix = Headers(scope=scope).get("x-forwarded-prefix", "").rstrip("/")
            if prefix and re.fullmatch(ROOT_PATH, prefix):
                scope = {**scope, "root_path": prefix}
        await super().__call__(scope, receive, send)
