"""`make keys`: `python -m functions.keys` against the store that `make run` has started.

Where the environment points at some other storage, that one is used, as `make run` would.
"""

import os
import sys

import embedded
import place  # noqa: F401  (makes the packages importable)
import running_store
from local_settings import LocalSettings, load_local_settings

from functions import keys
from pipeline.settings import SettingsError, load_settings

WRONG_SETTING = 2
FAILED = 1


def main() -> int:
    """Point the environment at the running store and do what the command line says; the exit status."""
    try:
        local, settings = load_local_settings(), load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return WRONG_SETTING
    if local.wants_own_store(settings) and not point_at_running_store(local):
        print(
            f"Nothing runs with DATA_DIR {local.data_folder}; start it with `make run` and keep it running, "
            f"or point AWS_ENDPOINT_URL at the storage to use.",
            file=sys.stderr,
        )
        return FAILED
    return keys.main()


def point_at_running_store(local: LocalSettings) -> bool:
    """Point the environment at the embedded AWS of the run that has the data folder; False when there is none."""
    store = running_store.find(local.data_folder)
    if store is None:
        return False
    environment = embedded.for_clients(os.environ, store.port) | store.environment()
    os.environ.clear()
    os.environ.update(environment)
    return True


if __name__ == "__main__":
    sys.exit(main())
