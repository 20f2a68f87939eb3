"""Only the embedded S3 and SQS, kept running and provisioned, for services that run in separate containers."""

import sys
from collections.abc import Sequence
from pathlib import Path

import supervisor
from supervision.processes import Program

from pipeline.settings import Settings


def no_services(_settings: Settings, _run_folder: Path) -> Sequence[Program]:
    """Return no programs: the services are run separately."""
    return []


if __name__ == "__main__":
    sys.exit(supervisor.main(no_services))
