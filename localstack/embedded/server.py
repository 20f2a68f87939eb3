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
from ministack.core.responses import set_request_account_id
from ministack.services import s3, sqs

from embedded import services
from embedded.access.cors import CorsPolicy
from embedded.access.verification import VerifiedRequests
from embedded.asgi import App
from embedded.queues.fair_queues import make_fair
from embedded.queues.long_polling import MessageArrivals, cancelled_on_disconnect
from embedded.storage.durable_writes import DurableWrites
from embedded.storage.ordered_keys import make_listings_fast
from embedded.storage.stored_objects import load_objects
from embedded.whole_requests import IDLE_SECONDS, StoreProtocol
from pipeline.access.request_signatures import SignatureVerifier

if sys.platform != "win32":
    import resource

OPEN_FILES = 4096


def nothing_is_public(_path: str) -> bool:
    """Return whether a path is served without a signature: none is."""
    return False


def create_queues() -> None:
    """Create the queues before the first request: to the services, a missing queue is a wrong setting."""
    for name in filter(None, os.environ["QUEUES"].split(",")):
        sqs._act_create_queue({"QueueName": name}, "")


async def main(
    app: App, signed_for: frozenset[str] | None, is_public: Callable[[str], bool] = nothing_is_public
) -> None:
    """Serve an application until stopped, for requests signed for these services; None means any service."""
    os.umask(0o077)
    make_listings_fast(s3)
    if os.environ["OBJECTS_FOLDER"]:
        data = Path(os.environ["OBJECTS_FOLDER"])
        load_objects(data)
        DurableWrites(data, os.environ["EPHEMERAL_PREFIXES"].split(","), os.environ["URGENT_KEYS"])
    set_request_account_id(os.environ["AWS_ACCESS_KEY_ID"])  # of all requests: they are signed with this key
    create_queues()
    make_fair(sqs)
    MessageArrivals(asyncio.get_running_loop())
    verifier = SignatureVerifier(
        os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], services=signed_for
    )
    cors = CorsPolicy(filter(None, os.environ["ALLOWED_ORIGINS"].split(",")))
    await serve(VerifiedRequests(cancelled_on_disconnect(app), verifier, cors, is_public))


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
    asyncio.run(main(services.serve, frozenset({"s3", "sqs"})))
