"""A proxy in front of the embedded store of one stack, which another stack uses with other names."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, web
from aiohttp.test_utils import TestServer
from yarl import URL

from pipeline.contract import layout
from pipeline.settings import Settings
from tests.e2e.stack import Stack

QUIET = {
    "LOG_LEVEL": "WARNING",
    "UVICORN_WORKERS": "1",
    "RECEIVE_WAIT_SECONDS": "20",
    "VISIBILITY_TIMEOUT_SECONDS": "60",
}

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def settings_of(stack: Stack, suffix: str) -> Settings:
    """Return settings with other names for the stack's storage, and set its credentials in the environment."""
    environment = next(process.environ() for process in stack.children() if "gpu_runner" in process.cmdline())
    os.environ.update({name: environment[name] for name in CREDENTIALS})
    names = {
        name: f"{suffix}-{name.replace('_', '-')}"
        for name in (
            "bucket",
            "synthesis_queue",
            "synthesis_dead_letter_queue",
            "events_queue",
            "events_dead_letter_queue",
        )
    }
    return Settings.model_validate({"aws_endpoint_url": environment["AWS_ENDPOINT_URL"], **names})


class Counting:
    """A proxy in front of the storage that counts requests by operation."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.counts: Counter[str] = Counter()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listen on a free port and yield the URL."""
        async with ClientSession(auto_decompress=False, timeout=ClientTimeout(total=60)) as self._session:
            application = web.Application(client_max_size=2**27)
            application.router.add_route("*", "/{path:.*}", self._pass_on)
            async with TestServer(application) as server:
                yield str(server.make_url("")).rstrip("/")

    async def _pass_on(self, request: web.Request) -> web.Response:
        target = request.headers.get("X-Amz-Target")
        body = await request.read()
        async with self._session.request(
            request.method,
            URL(self.target + request.raw_path, encoded=True),  # as it was signed
            headers=request.headers,
            data=body,
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in {"transfer-encoding", "connection"}}
            # Count responses: a pending long poll belongs to the next preview. The sweep reads many audit entries
            # at some moment.
            if not (request.method == "GET" and f"/{layout.AUDIT_PENDING}" in request.path):
                self.counts[target.split(".")[-1] if target else f"S3 {request.method}"] += 1
            return web.Response(status=answer.status, headers=kept, body=content)


@asynccontextmanager
async def proxied(store: Stack, counting: Counting, folder: Path) -> AsyncIterator[Stack]:
    """Run the service on the stack's store, with other names, through the proxy."""
    settings = settings_of(store, folder.name)
    async with counting.listening() as endpoint:
        environment = {
            **QUIET,
            **{name: os.environ[name] for name in CREDENTIALS},
            "AWS_ENDPOINT_URL": endpoint,
            **{
                name.upper(): str(value)
                for name, value in settings.model_dump().items()
                if name == "bucket" or name.endswith("_queue")
            },
        }
        stack = Stack(folder, environment)
        try:
            await asyncio.to_thread(stack.start)
            yield stack
        finally:
            await asyncio.to_thread(stack.stop_all)
