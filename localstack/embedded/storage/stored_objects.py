"""Loads the objects of the embedded S3 from their files, with one walk through the folders.

ministack loads them while it is imported, with several walks.  So it is imported without a folder.
"""

import contextlib
import gc
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ministack.services import s3

from embedded.storage.atomic_files import SIDECAR, TEMPORARY, finish_interrupted_write
from embedded.storage.empty_folders import removed_if_empty

BUCKETS = "[0-9]*/*"  # <account>/<bucket>
# The fields of a record, all of which are in its sidecar.
FIELDS = {
    "content_type",
    "content_encoding",
    "etag",
    "last_modified",
    "size",
    "metadata",
    "preserved_headers",
    "storage_class",
    "checksums",
}
LONGEST_SIDECAR = 16 * 1024  # bytes; ministack loads objects with longer ones
HISTORY = ("is_delete_marker", "version_id", "versions", "tags", "acl", "annotations")


@dataclass(slots=True)
class _Found:
    objects: dict[str, Any] = field(default_factory=dict)
    others: list[tuple[str, str]] = field(default_factory=list)
    """Paths and keys of the objects that ministack has to load: those with versions or tags, and damaged ones."""


def load_objects(data: Path) -> None:
    """Load all objects from a folder, and finish or remove the temporary files of the last process."""
    data.mkdir(parents=True, exist_ok=True)
    s3.S3_PERSIST, s3.DATA_DIR = True, str(data)
    gc.disable()  # a tenth of the time: what is loaded remains
    found = {str(bucket): _find(bucket) for bucket in data.glob(BUCKETS) if bucket.is_dir()}

    def other_files(bucket: str, sidecars: bool) -> Iterator[tuple[str, str]]:
        if bucket in found:
            return ((path, key) for path, key in found[bucket].others if path.endswith(SIDECAR) == sidecars)
        files: Iterator[tuple[str, str]] = list_files(bucket, sidecars)
        return files

    list_files, s3._persisted_key_files = s3._persisted_key_files, other_files
    try:
        s3._load_persisted_data()
    finally:
        s3._persisted_key_files = list_files
    for bucket, loaded in found.items():
        if loaded.objects:
            s3._buckets._data[Path(bucket).parts[-2:]]["objects"].update(loaded.objects)
    gc.enable()
    gc.freeze()


def _find(bucket: Path) -> _Found:
    found, encoded = _Found(), str(bucket / s3._ENCODED_KEYS_DIR)
    # The encoded names come last: of two files of a key, ministack uses theirs.
    for folder, names in sorted(_folders(str(bucket)), key=lambda walked: walked[0] == encoded):
        files = set(_tidied(folder, names))
        if not files and folder != str(bucket):
            removed_if_empty(Path(folder))
        inner = folder[len(str(bucket)) + 1 :].replace(os.sep, "/")
        prefix = f"{inner}/" if inner else ""
        for name in files:
            path, key = f"{folder}{os.sep}{name}", prefix + name
            if name.endswith(SIDECAR):
                if name.removesuffix(SIDECAR) not in files:  # perhaps a delete marker
                    found.others.append((path, key.removesuffix(SIDECAR)))
                continue
            meta = _read(path + SIDECAR) if name + SIDECAR in files else {}
            if folder == encoded:
                key = meta.get("key") or unquote(name)
            if meta.keys() >= FIELDS and meta["etag"] and not any(map(meta.get, HISTORY)):
                found.objects[key] = {"body": None, **{name: meta[name] for name in FIELDS}}
            else:
                found.others.append((path, key))
    return found


def _folders(bucket: str) -> Sequence[tuple[str, list[str]]]:
    """Return the folders with their files, each folder after those in it. `os.walk` takes twice the time."""
    folders, left = list[tuple[str, list[str]]](), [bucket]
    while left:
        folder, names = left.pop(), list[str]()
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_dir():
                    names.append(entry.name)
                elif not entry.is_symlink():
                    left.append(entry.path)
        folders.append((folder, names))
    return folders[::-1]


def _tidied(folder: str, names: list[str]) -> Iterator[str]:
    """Yield the names of the files without the temporary ones, which are finished or removed."""
    for name in names:
        if name.endswith(TEMPORARY):
            finish_interrupted_write(Path(folder, name))
        else:
            yield name


def _read(sidecar: str) -> dict[str, Any]:
    """Return the content of a sidecar; empty if it is damaged or too long."""
    try:
        descriptor = os.open(sidecar, os.O_RDONLY)  # with half of the system calls of `open`
        try:
            body = os.read(descriptor, LONGEST_SIDECAR)
        finally:
            os.close(descriptor)
        meta: dict[str, Any] = json.loads(body.decode())
    except (OSError, ValueError):
        return {}
    return meta
