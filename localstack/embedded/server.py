"""The server process of the embedded AWS, run in ministack's own virtual environment."""

import asyncio
import os

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.app import app
from ministack.services import sqs

from embedded.fair_queues import make_fair
from embedded.long_polling import MessageArrivals, cancelled_on_disconnect


async def main() -> None:
    """Serve until told to stop."""
    make_fair(sqs)
    MessageArrivals(asyncio.get_running_loop())
    config = Config()
    config.bind = [f"{os.environ['BIND_HOST']}:{os.environ['GATEWAY_PORT']}"]
    config.loglevel = os.environ["LOG_LEVEL"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 0.5
    await serve(cancelled_on_disconnect(app), config)


if __name__ == "__main__":
    asyncio.run(main())
