"""The embedded S3 and SQS alone, kept running and provisioned, for services that run in containers of their own."""

import sys
from collections.abc import Sequence
from pathlib import Path

import supervisor
from supervision.processes import Program

from pipeline.settings import Settings


def no_services(_settings: Settings, _run_folder: Path) -> Sequence[Program]:
    """Return nothing: whatever else runs is somebody else's to run."""
    return []


if __name__ == "__main__":
    sys.exit(supervisor.main(no_services))
