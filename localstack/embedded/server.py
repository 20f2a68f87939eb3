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
from embedded.storage.empty_folders import remove_empty_folders, remove_folders_with_last_object
from pipeline.access.request_signatures import SignatureVerifier


def nothing_is_public(_path: str) -> bool:
    """Return whether a path is served without a signature: none is."""
    return False


async def main(
    services: frozenset[str] | None = frozenset({"s3", "sqs"}),
    is_public: Callable[[str], bool] = nothing_is_public,
) -> None:
    """Serve these services until stopped; None means all services of ministack."""
    os.umask(0o077)
    data = Path(os.environ["S3_DATA_DIR"])
    remove_empty_folders(data)
    remove_folders_with_last_object(data)
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
