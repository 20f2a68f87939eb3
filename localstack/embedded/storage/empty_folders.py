"""Removes empty folders of the embedded S3: their names are those of deleted voices.

Files are written and deleted in one step of the event loop, so no folder is removed between its creation and that
of the file in it.
"""

import contextlib
from pathlib import Path

BUCKET_DEPTH = 2  # <account>/<bucket>: these are kept even if empty


def remove_empty_parents(file: Path, data: Path) -> None:
    """Remove the folders of a file within its bucket that are empty."""
    folder = file.parent
    while len(folder.relative_to(data.resolve()).parts) > BUCKET_DEPTH and removed_if_empty(folder):
        folder = folder.parent


def removed_if_empty(folder: Path) -> bool:
    """Remove a folder if it is empty; return whether it was removed."""
    with contextlib.suppress(OSError):
        folder.rmdir()
        return True
    return False
