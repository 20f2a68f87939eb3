"""The server process of the embedded AWS, run in ministack's own virtual environment."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from ministack.app import app
from ministack.services import sqs

from embedded.access.cors import CorsPolicy
from embedded.access.verification import VerifiedRequests
from embedded.asgi import App
from embedded.queues.fair_queues import make_fair
from embedded.queues.long_polling import MessageArrivals, cancelled_on_disconnect
from embedded.storage.atomic_files import finish_interrupted_writes
from embedded.storage.durable_writes import DurableWrites
from embedded.storage.empty_folders import remove_empty_folders
from functions.local.limited_http import LimitedHttpProtocol
from pipeline.access.request_signatures import SignatureVerifier

if sys.platform != "win32":
    import resource

OPEN_FILES = 4096
IDLE_SECONDS = 75  # longer than clients keep connections: otherwise they use one that is being closed


def nothing_is_public(_path: str) -> bool:
    """Return whether a path is served without a signature: none is."""
    return False


def keep_objects(data: Path) -> None:
    """Keep objects in this folder, and tidy up what the last process left there."""
    data.mkdir(parents=True, exist_ok=True)
    finish_interrupted_writes(data)
    remove_empty_folders(data)
    DurableWrites(data, os.environ["EPHEMERAL_PREFIXES"].split(","), os.environ["URGENT_KEYS"])


async def main(
    services: frozenset[str] | None = frozenset({"s3", "sqs"}),
    is_public: Callable[[str], bool] = nothing_is_public,
) -> None:
    """Serve these services until stopped; None means all services of ministack."""
    os.umask(0o077)
    if os.environ["S3_PERSIST"] == "1":
        keep_objects(Path(os.environ["S3_DATA_DIR"]))
    make_fair(sqs)
    MessageArrivals(asyncio.get_running_loop())
    verifier = SignatureVerifier(
        os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], services=services
    )
    cors = CorsPolicy(filter(None, os.environ["ALLOWED_ORIGINS"].split(",")))
    await serve(VerifiedRequests(cancelled_on_disconnect(app), verifier, cors, is_public))


class StoreProtocol(LimitedHttpProtocol):
    """HTTP/1.1 of the store, for the processes of this machine."""

    headers_timeout_seconds = IDLE_SECONDS
    linger_seconds = 5.0
    linger_max_bytes = 8 * 1024 * 1024
    max_connections = 2048


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End with the exit code 0 on a signal."""
        if sys.platform == "win32":
            with super().capture_signals():
                yield
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.handle_exit, number, None)
        yield


async def serve(application: App) -> None:
    """Serve until stopped."""
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < OPEN_FILES:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # it logs the long polls that a stop ends
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        http=StoreProtocol,
        ws="wsproto",
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=1,
    )
    with socket.create_server((os.environ["BIND_HOST"], int(os.environ["GATEWAY_PORT"]))) as listening:
        await _Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(main())
