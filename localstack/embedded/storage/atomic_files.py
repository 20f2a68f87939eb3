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


def write_files(contents: dict[Path, bytes], *, synced: bool) -> None:
    """Write files of one folder under temporary names, and then rename them in this order.

    Raises
    ------
    OSError
        One can't be written; no file was changed, and no temporary file remains.
    """
    folder = next(iter(contents)).parent
    temporary = {path: path.with_name(path.name + TEMPORARY) for path in contents}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, content in contents.items():
            with os.fdopen(os.open(temporary[path], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
                if synced:
                    file.flush()
                    os.fsync(file.fileno())
        for path in contents:
            temporary[path].replace(path)
    except OSError:
        for unfinished in temporary.values():
            with contextlib.suppress(OSError):
                unfinished.unlink()
        raise
    if synced:
        _sync_folder(folder)


def finish_interrupted_writes(data: Path) -> None:
    """Remove temporary files that the end of a process left; rename them if only the last rename is missing."""
    for temporary in data.rglob(f"*{TEMPORARY}"):
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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
