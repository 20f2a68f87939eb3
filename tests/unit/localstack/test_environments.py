"""Environments are made once, and again when their lock file changes."""

from pathlib import Path

import pytest
from environments import venvs


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock file of a repository that has no environments yet."""
    monkeypatch.setattr(venvs, "ROOT", tmp_path)
    monkeypatch.setattr(venvs, "VENVS", tmp_path / ".venvs")
    path = tmp_path / "some.lock"
    path.write_text("a==1\n")
    return path


@pytest.fixture
def made(lock: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the environment was made from, each time."""
    contents: list[str] = []

    def make(_folder: Path, python: Path, lock: Path, _maker: str) -> None:
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        contents.append(lock.read_text())

    monkeypatch.setattr(venvs, "_make", make)
    return contents


def test_environment_created_once(lock: Path, made: list[str]) -> None:
    assert venvs.ensure("some", lock) == venvs.ensure("some", lock)
    assert made == ["a==1\n"]


def test_environment_recreated_for_new_lock(lock: Path, made: list[str]) -> None:
    venvs.ensure("some", lock)
    lock.write_text("a==2\n")
    venvs.ensure("some", lock)
    assert made == ["a==1\n", "a==2\n"]


def test_failed_environment_is_recreated(lock: Path, made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise venvs.EnvironmentFailed("no network")

    with monkeypatch.context() as patch:
        patch.setattr(venvs, "_make", fail)
        with pytest.raises(venvs.EnvironmentFailed):
            venvs.ensure("some", lock)
    venvs.ensure("some", lock)
    assert made == ["a==1\n"]


def test_python_without_ensurepip(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(venvs.EnvironmentFailed, match="-venv` on Debian"):
        venvs.ensure("some", lock)


def test_existing_environment_is_read_only(lock: Path, made: list[str]) -> None:
    python = venvs.ensure("some", lock)
    (venvs.VENVS / "some.lock").unlink(missing_ok=True)
    before = sorted(venvs.VENVS.rglob("*"))
    assert venvs.ensure("some", lock) == python
    assert sorted(venvs.VENVS.rglob("*")) == before
