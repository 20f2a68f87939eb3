"""Saves the data folder to one file and restores it: `python localstack/backup.py save|restore FILE`.

The service need not be stopped: objects are written atomically, and unfinished work is ended or removed at the next
start, as after a power failure.  Temporary objects are saved too, and expire where they are restored.
"""

import argparse
import contextlib
import sys
import tarfile
from pathlib import Path

import environments  # noqa: F401  (makes the packages importable)
from embedded.storage.data_folder import lock_of, make_private
from filelock import Timeout
from supervision.local_settings import load_local_settings

from pipeline.environment import SettingsError

FAILED = 1


class BackupFailed(Exception):
    """Nothing was saved or restored; the message says why."""


def save(data: Path, file: Path) -> None:
    """Save a data folder; the file is replaced only once the new one is complete.

    Raises
    ------
    BackupFailed
        The folder does not exist.
    """
    if not data.is_dir():
        raise BackupFailed(f"DATA_DIR {data} is not there.")
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.new")
    try:
        # It holds recordings and the credentials.
        unfinished.touch(mode=0o600)
        with tarfile.open(unfinished, "w:gz") as archive:
            for path in sorted(data.rglob("*")):
                _add(archive, path, path.relative_to(data))
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def _add(archive: tarfile.TarFile, path: Path, name: Path) -> None:
    """Add a file, unless it is used only during a run, or has expired and been deleted meanwhile."""
    if name.parts[0] not in {"run", "in-use.lock"}:
        with contextlib.suppress(FileNotFoundError):
            archive.add(path, arcname=str(name), recursive=False)


def restore(data: Path, file: Path) -> None:
    """Restore a data folder that is empty or does not exist.

    Raises
    ------
    BackupFailed
        The folder is not empty or is in use, or the file is not a backup.
    """
    make_private(data)
    try:
        with lock_of(data).acquire(timeout=0):
            if any(path.name != "in-use.lock" for path in data.iterdir()):
                raise BackupFailed(f"DATA_DIR {data} is not empty; move it away first, or name another.")
            with tarfile.open(file) as archive:
                archive.extractall(data, filter="data")
    except Timeout:
        raise BackupFailed(f"DATA_DIR {data} is in use; stop the service first.") from None
    except (OSError, tarfile.TarError) as error:
        raise BackupFailed(f"{file} can't be restored: {error}.") from error


def main() -> int:
    """Save or restore; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["save", "restore"])
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    try:
        data = load_local_settings().data_folder
        {"save": save, "restore": restore}[arguments.what](data, arguments.file.resolve())
    except (BackupFailed, SettingsError) as error:
        print(error, file=sys.stderr)
        return FAILED
    print(f"{'Saved' if arguments.what == 'save' else 'Restored'} {data}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
