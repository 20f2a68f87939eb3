"""Create the buckets and queues that the environment configures: `python localstack/provision.py`."""

import asyncio
import sys

import environments  # noqa: F401  (makes the packages importable)
from embedded.running_store import use_running_store_unless_configured
from provisioning.provision import provision

from pipeline.environment import SettingsError
from pipeline.errors import Unavailable
from pipeline.settings import load_settings
from pipeline.telemetry.logs import configure_logging


def main() -> int:
    """Create the configured buckets and queues. Return the exit code."""
    try:
        use_running_store_unless_configured()
        settings = load_settings()
        configure_logging(settings, "provision")
        asyncio.run(provision(settings))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except Unavailable as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
