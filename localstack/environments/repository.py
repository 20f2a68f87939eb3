"""Paths of the repository; importing this makes its packages importable in programs that are run by path."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCALSTACK = ROOT / "localstack"

if str(ROOT) not in sys.path:
    sys.path.insert(1, str(ROOT))
