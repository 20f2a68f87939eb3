"""Environments are made once, and anew when their lock file changes."""

from pathlib import Path

import environments
import pytest


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock file of a repository that has no environments yet."""
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    monkeypatch.setattr(environments, "VENVS", tmp_path / ".venvs")
    path = tmp_path / "some.lock"
    path.write_text("a==1\n")
    return path


@pytest.fixture
def made(lock: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the environment was made from, each time."""
    contents: list[str] = []

    def make(_folder: Path, python: Path, lock: Path) -> None:
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        contents.append(lock.read_text())

    monkeypatch.setattr(environments, "_make", make)
    return contents


def test_an_environment_is_made_once(lock: Path, made: list[str]) -> None:
    assert environments.ensure("some", lock) == environments.ensure("some", lock)
    assert made == ["a==1\n"]


def test_a_changed_lock_makes_it_anew(lock: Path, made: list[str]) -> None:
    environments.ensure("some", lock)
    lock.write_text("a==2\n")
    environments.ensure("some", lock)
    assert made == ["a==1\n", "a==2\n"]


def test_one_that_failed_is_made_again(lock: Path, made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise environments.EnvironmentFailed("no network")

    with monkeypatch.context() as patch:
        patch.setattr(environments, "_make", fail)
        with pytest.raises(environments.EnvironmentFailed):
            environments.ensure("some", lock)
    environments.ensure("some", lock)
    assert made == ["a==1\n"]


def test_a_python_without_ensurepip_is_told_what_to_install(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(environments.EnvironmentFailed, match="-venv` on Debian"):
        environments.ensure("some", lock)
