"""`python -m functions`: serve the API on this machine, under uvicorn, configured by the environment."""

import sys

import uvicorn

from functions.local import uvicorn_options
from pipeline.environment import SettingsError
from pipeline.settings import load_settings
from pipeline.telemetry.logs import configure_logging


def main() -> int:
    """Serve until a signal stops the process; return the exit status."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - logging is not configured yet
        return 2
    configure_logging(settings, "api")
    uvicorn.run(
        "functions.local.server:application",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.uvicorn_workers,
        timeout_graceful_shutdown=2,  # before the supervisor kills the process
        **uvicorn_options.OPTIONS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
