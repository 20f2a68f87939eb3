"""The server process of the embedded AWS, run in ministack's own virtual environment."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.app import app
from ministack.services import sqs

from embedded.access.cors import CorsPolicy
from embedded.access.verification import VerifiedRequests
from embedded.queues.fair_queues import make_fair
from embedded.queues.long_polling import MessageArrivals, cancelled_on_disconnect
from embedded.storage.atomic_files import finish_interrupted_writes
from embedded.storage.durable_writes import DurableWrites
from embedded.storage.empty_folders import remove_empty_folders
from pipeline.access.request_signatures import SignatureVerifier


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
    config = Config()
    config.bind = [f"{os.environ['BIND_HOST']}:{os.environ['GATEWAY_PORT']}"]
    config.loglevel = os.environ["LOG_LEVEL"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 0.5
    await serve(VerifiedRequests(cancelled_on_disconnect(app), verifier, cors, is_public), config)


if __name__ == "__main__":
    asyncio.run(main())
