"""`make keys`: `python -m functions.keys` against the embedded AWS of the running `make run`.

If the environment configures other storage, that is used, as by `make run`.
"""

import sys
from collections.abc import Callable

import environments  # noqa: F401  (makes the packages importable)
from embedded.running_store import use_running_store
from supervision.local_settings import load_local_settings

from functions import keys
from pipeline.environment import SettingsError
from pipeline.settings import load_settings

WRONG_SETTING = 2
FAILED = 1


def main(command: Callable[[], int] = keys.main) -> int:
    """Point the environment at the running embedded AWS and run the command; return the exit code."""
    try:
        local, settings = load_local_settings(), load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return WRONG_SETTING
    if local.uses_embedded_aws(settings) and not use_running_store(local):
        print(
            f"Nothing runs with DATA_DIR {local.data_folder}; start it with `make run` and keep it running, "
            f"or point AWS_ENDPOINT_URL at the storage to use.",
            file=sys.stderr,
        )
        return FAILED
    return command()


if __name__ == "__main__":
    sys.exit(main())
