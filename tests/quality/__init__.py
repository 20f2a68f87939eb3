"""Measured quality of the speech of an engine: `python -m tests.quality` from the root of the repository."""

import sys
from pathlib import Path

# `localstack` is not a package; its modules are imported by their names.
sys.path.insert(1, str(Path(__file__).parents[2] / "localstack"))
