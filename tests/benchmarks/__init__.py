"""Benchmarks, run as `python -m tests.benchmarks.NAME` from the root of the repository."""

import sys
from pathlib import Path

# `localstack` is not a package, as that would hide the real one; its modules are imported by their names.
sys.path.insert(1, str(Path(__file__).parents[2] / "localstack"))
