"""Writes the files of objects so that each is complete, or is not there."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

TEMPORARY = ".tmp"  # ministack does not load files with this suffix
SIDECAR = ".meta.json"


def sidecar_of(path: Path) -> Path:
    """Return the file with the metadata of an object, by its data file."""
    return path.with_name(path.name + SIDECAR)


def write_files(contents: dict[Path, bytes], root: str, *, synced: bool) -> None:
    """Write files of one folder under temporary names, and then rename them in this order.

    The folder is created if it does not exist. `root`, the bucket's folder, is not: the bucket was removed.

    Raises
    ------
    OSError
        One can't be written; no file was changed, and no temporary file remains.
    """
    files = {os.fspath(path): content for path, content in contents.items()}
    folder = os.path.dirname(next(iter(files)))
    try:
        for path, content in files.items():
            descriptor = _created(path + TEMPORARY, folder, root)
            try:
                left = memoryview(content)
                while left:
                    left = left[os.write(descriptor, left) :]
                if synced:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        for path in files:
            os.replace(path + TEMPORARY, path)
    except OSError:
        for path in files:
            with contextlib.suppress(OSError):
                os.unlink(path + TEMPORARY)
        raise
    if synced:
        _sync_folder(folder)


def _created(path: str, folder: str, root: str) -> int:
    """Open a file for writing, and create its folder below the root if it does not exist."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        _make_folders(folder, root)
        return os.open(path, flags, 0o600)


def _make_folders(folder: str, root: str) -> None:
    if folder == root:
        return
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make_folders(os.path.dirname(folder), root)
        os.mkdir(folder, 0o700)


def finish_interrupted_write(temporary: Path) -> None:
    """Remove a temporary file that the end of a process left; rename it if only the last rename is missing."""
    path = temporary.with_name(temporary.name.removesuffix(TEMPORARY))
    if path.is_file() and _etag_in_sidecar(path) == f'"{hashlib.md5(temporary.read_bytes()).hexdigest()}"':  # noqa: S324
        temporary.replace(path)
    else:
        temporary.unlink()


def _etag_in_sidecar(path: Path) -> str | None:
    try:
        etag: str = json.loads(sidecar_of(path).read_bytes())["etag"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return etag


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
