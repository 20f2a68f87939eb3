"""Create environments by name: `PYTHONPATH=localstack python -m environments NAME…`."""

import sys

from environments.venvs import LOCKS, ensure

for name in sys.argv[1:]:
    ensure(name, LOCKS[name])
