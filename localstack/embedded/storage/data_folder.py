"""The data folder of a run: accessible only to its owner, locked during a run, with its own credentials."""

import configparser
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

PRIVATE_FOLDER = 0o700
CREDENTIALS_FILE = "credentials"


class DataFolderUnavailable(Exception):
    """The data folder can't be used; the message says how to fix it."""


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """An access key and its secret."""

    access_key_id: str
    secret_access_key: str = field(repr=False)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that the AWS SDKs read."""
        return {"AWS_ACCESS_KEY_ID": self.access_key_id, "AWS_SECRET_ACCESS_KEY": self.secret_access_key}


def make_private(folder: Path) -> None:
    """Create a folder, if it does not exist, and restrict access to its owner.

    Raises
    ------
    OSError
        It can't be created, or belongs to another user.
    """
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(PRIVATE_FOLDER)


@contextmanager
def locked(data: Path) -> Iterator[Path]:
    """Create the data folder and lock it: two stores on one folder would overwrite each other.

    Raises
    ------
    DataFolderUnavailable
        Another run uses it, or it is not writable.
    """
    try:
        make_private(data)
        lock = lock_of(data)
        lock.acquire(timeout=0)
    except Timeout:
        raise DataFolderUnavailable(
            f"another run uses DATA_DIR {data}. Stop that, or give this one a folder of its own, "
            f"and a port: `make run DATA_DIR=data/second PORT=0`."
        ) from None
    except OSError as error:
        raise DataFolderUnavailable(f"DATA_DIR {data} can't be used: {error.strerror or error}.") from error
    with lock:
        yield data


def lock_of(data: Path) -> FileLock:
    """Return the lock that a run holds on its data folder for its duration."""
    return FileLock(data / "in-use.lock", mode=0o600)


def run_folder_of(data: Path) -> Path:
    """Return the folder for files that are used only during a run."""
    return data / "run"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, atomically."""
    # `mkstemp` creates files with mode 0600.
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(unfinished).replace(path)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def new_credentials() -> AwsCredentials:
    """Return random credentials in the format of AWS."""
    return AwsCredentials("LOCAL" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30))


def ensure_credentials(data: Path) -> AwsCredentials:
    """Return the credentials of a data folder; create them on first use."""
    found = read_credentials(data)
    if found is None:
        found = new_credentials()
        write_private(data / CREDENTIALS_FILE, _file_with(found))
    return found


def read_credentials(data: Path) -> AwsCredentials | None:
    """Return the credentials of a data folder; None if it has none, or none that can be read."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string((data / CREDENTIALS_FILE).read_text(encoding="utf-8"))
        section = parser["default"]
        return AwsCredentials(section["aws_access_key_id"], section["aws_secret_access_key"])
    except (OSError, ValueError, KeyError, configparser.Error):
        return None


def _file_with(credentials: AwsCredentials) -> str:
    """Return the content of a shared credentials file, for `AWS_SHARED_CREDENTIALS_FILE` and the AWS CLI."""
    return (
        "[default]\n"
        f"aws_access_key_id = {credentials.access_key_id}\n"
        f"aws_secret_access_key = {credentials.secret_access_key}\n"
    )
