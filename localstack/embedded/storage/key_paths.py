"""The files of objects, at the paths that ministack chooses, with fewer system calls.

The file of a key is at the key's own path.  If there can be no such path, it has an encoded name in one folder.
"""

import os
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from ministack.core.responses import get_account_id
from ministack.services import s3

from embedded.storage.atomic_files import SIDECAR


def root_of(bucket: str) -> str:
    """Return the folder of a bucket."""
    return _root_of(get_account_id(), bucket)


def path_of(bucket: str, key: str) -> Path:
    """Return the path of an object's data file. There may be none."""
    root = root_of(bucket)
    modes = list(_modes(root, key)) if s3._plain_path_key(key) else [stat.S_IFLNK]
    if stat.S_IFLNK in modes:
        return Path(s3._key_disk_path(root, key))
    plain, folders = f"{root}/{key}", key.count("/")
    is_there = len(modes) > folders
    if (is_there and modes[-1] == stat.S_IFREG) or (len(modes) >= folders and os.path.isfile(plain + SIDECAR)):
        return Path(plain)
    encoded = _encoded(root, key)
    is_encoded = os.path.isfile(encoded) or os.path.isfile(encoded + SIDECAR)
    return Path(encoded if is_encoded or is_there or stat.S_IFREG in modes else plain)


def other_path_of(bucket: str, key: str, path: Path) -> str | None:
    """Return the other path at which ministack may have stored a key."""
    root = root_of(bucket)
    encoded = _encoded(root, key)
    if os.fspath(path) != encoded:
        return encoded
    other: str | None = s3._other_key_disk_path(root, key, encoded)
    return other


def _modes(root: str, key: str) -> Iterator[int]:
    """Yield the file types along the path of a key, up to the first that does not exist."""
    path = root
    for part in key.split("/"):
        path = f"{path}/{part}"
        try:
            yield stat.S_IFMT(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return


@lru_cache
def _root_of(account: str, bucket: str) -> str:
    return os.path.realpath(os.path.join(s3.DATA_DIR, account, bucket))


def _encoded(root: str, key: str) -> str:
    return f"{root}/{s3._ENCODED_KEYS_DIR}/{s3._encoded_key_name(key)}"
