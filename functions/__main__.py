"""`python -m functions`: the API on this machine, under uvicorn, against whatever the environment points at."""

import sys

import uvicorn

from functions.websocket import MESSAGE_MAX_BYTES
from pipeline.logs import configure_logging
from pipeline.settings import SettingsError, load_settings

# Larger messages than are answered must still be received to be refused, so that the connection lives on.
FRAME_MAX_BYTES = 128 * MESSAGE_MAX_BYTES


def main() -> int:
    """Serve until told to stop; the exit status."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        return 2
    configure_logging(settings, "api")
    uvicorn.run(
        "functions.server:application",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.uvicorn_workers,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="websockets-sansio",
        ws_max_size=FRAME_MAX_BYTES,
        timeout_graceful_shutdown=3,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
