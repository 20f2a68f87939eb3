"""Virtual environments under `.venvs`, and the paths of the repository.

Importing this package makes the packages of the repository importable in programs that are run by path.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCALSTACK = ROOT / "localstack"

if str(ROOT) not in sys.path:
    sys.path.insert(1, str(ROOT))
