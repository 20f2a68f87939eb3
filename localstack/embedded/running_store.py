"""Configures a manually run program to use the embedded AWS of a running `make run`."""

import os

from supervision.local_settings import LocalSettings, load_local_settings

from embedded.configuration import point_environment_at
from embedded.storage import connection_file
from embedded.storage.data_folder import read_credentials
from pipeline.settings import load_settings


def use_running_store(local: LocalSettings) -> bool:
    """Point the environment at the embedded AWS of the run that uses the data folder; return False if none runs."""
    connection = connection_file.read(local.data_folder)
    credentials = read_credentials(local.data_folder)
    if connection is None or credentials is None:
        return False
    point_environment_at(connection.port, credentials)
    os.environ.update(connection.environment())
    return True


def use_running_store_unless_configured() -> None:
    """Use the running store, if there is one and the environment configures no other storage.

    Raises
    ------
    SettingsError
        A setting has an invalid value.
    """
    local = load_local_settings()
    if local.uses_embedded_aws(load_settings()):
        use_running_store(local)
