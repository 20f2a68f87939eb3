"""Create environments by name: `PYTHONPATH=localstack python -m environments NAME…`."""

import sys
from concurrent.futures import ThreadPoolExecutor

from environments.venvs import LOCKS, ensure

with ThreadPoolExecutor(max_workers=2) as pool:
    for _ in pool.map(lambda name: ensure(name, LOCKS[name]), sys.argv[1:]):
        pass
