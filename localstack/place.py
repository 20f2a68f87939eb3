"""Where the repository is; importing this makes its packages importable by the programs that are run by path."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "localstack"

if str(ROOT) not in sys.path:
    sys.path.insert(1, str(ROOT))
