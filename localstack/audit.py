"""`make audit`: `python -m functions.audit` against the embedded AWS of the running `make run`."""

import sys

import environments  # noqa: F401  (makes the packages importable)
from keys import main

from functions import audit

if __name__ == "__main__":
    sys.exit(main(audit.main))
