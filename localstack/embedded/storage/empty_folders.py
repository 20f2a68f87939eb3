"""Removes empty folders of the embedded S3: their names are those of deleted voices.

ministack writes and deletes an object's files in one step of the event loop, so no folder is removed between its
creation and that of the file in it.
"""

import contextlib
import os
from pathlib import Path

from ministack.services import s3

BUCKETS = "*/*"  # <account>/<bucket>: these are kept even if empty


def remove_empty_folders(data: Path) -> None:
    """Remove all empty folders within buckets."""
    for bucket in data.glob(BUCKETS):
        for folder, _, _ in os.walk(bucket, topdown=False):
            if Path(folder) != bucket:
                _removed(Path(folder))


def remove_folders_with_last_object(data: Path) -> None:
    """Patch ministack to remove the folders of an object when it deletes the last object in them."""
    delete_files = s3._delete_persisted_object

    def delete_files_and_folders(bucket: str, key: str) -> None:
        path = s3._object_disk_path(bucket, key)
        delete_files(bucket, key)
        if path is not None:
            folder = Path(path).parent
            while len(folder.relative_to(data.resolve()).parts) > len(Path(BUCKETS).parts) and _removed(folder):
                folder = folder.parent

    s3._delete_persisted_object = delete_files_and_folders


def _removed(folder: Path) -> bool:
    """Remove a folder if it is empty; return whether it was removed."""
    with contextlib.suppress(OSError):
        folder.rmdir()
        return True
    return False
