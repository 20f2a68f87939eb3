"""Interrupted writes of objects' files."""

import hashlib
import json
from pathlib import Path

import pytest
from embedded.storage.atomic_files import finish_interrupted_write, sidecar_of, write_files


def test_write_files_in_new_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    write_files({folder / "one": b"1", folder / "two": b"2"}, str(tmp_path), synced=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"one": b"1", "two": b"2"}


def test_removed_root_is_not_recreated(tmp_path: Path) -> None:
    root = tmp_path / "bucket"
    with pytest.raises(FileNotFoundError):
        write_files({root / "a" / "one": b"1"}, str(root), synced=True)
    assert not root.exists()


def test_failed_write_files_keep_old_files(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"old")
    (tmp_path / "two.tmp").mkdir()
    with pytest.raises(OSError, match=r"two\.tmp"):
        write_files({tmp_path / "one": b"new", tmp_path / "two": b"new"}, str(tmp_path), synced=False)
    assert (tmp_path / "one").read_bytes() == b"old"
    assert not (tmp_path / "one.tmp").exists()


@pytest.mark.parametrize(("etag_of", "result"), [(b"new", b"new"), (b"old", b"old")])
def test_interrupted_replacement(tmp_path: Path, etag_of: bytes, result: bytes) -> None:
    """The sidecar is renamed first: if it is that of the temporary file, the last step is missing."""
    file = tmp_path / "object"
    file.write_bytes(b"old")
    sidecar_of(file).write_text(json.dumps({"etag": f'"{hashlib.md5(etag_of).hexdigest()}"'}))
    (tmp_path / "object.tmp").write_bytes(b"new")
    finish_interrupted_write(tmp_path / "object.tmp")
    assert file.read_bytes() == result
    assert not (tmp_path / "object.tmp").exists()


def test_interrupted_first_write_is_removed(tmp_path: Path) -> None:
    (tmp_path / "object.tmp").write_bytes(b"new")
    finish_interrupted_write(tmp_path / "object.tmp")
    assert list(tmp_path.iterdir()) == []
