"""Settings of the supervisor alone, and the environment that it gives the services."""

import os
import re
from pathlib import Path

import pytest
from embedded import configuration
from embedded.storage.data_folder import AwsCredentials
from environments import ROOT
from supervision.local_settings import apply_arguments, load_local_settings

from pipeline.environment import SettingsError


def test_data_dir_default() -> None:
    assert load_local_settings().data_folder == ROOT / "data"


def test_data_dir_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert load_local_settings().data_folder == tmp_path
    monkeypatch.setenv("DATA_DIR", "data/second")
    assert load_local_settings().data_folder == ROOT / "data" / "second"


def test_local_settings_invalid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "file"))
    monkeypatch.setenv("EMBEDDED_AWS", "maybe")
    with pytest.raises(SettingsError) as raised:
        load_local_settings()
    assert [line.split(":")[0] for line in str(raised.value).splitlines()] == ["DATA_DIR", "EMBEDDED_AWS"]


def test_embedded_aws_ignores_aws_profile() -> None:
    mine = {"AWS_PROFILE": "work", "AWS_SESSION_TOKEN": "t", "AWS_ACCESS_KEY_ID": "AKIA", "HOME": "/home/me"}
    given = configuration.pointing_at(21_000, AwsCredentials("LOCAL1", "secret"), mine)
    assert given["AWS_ENDPOINT_URL"] == "http://127.0.0.1:21000"
    assert given["AWS_ACCESS_KEY_ID"] == "LOCAL1"
    assert given["HOME"] == "/home/me"
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN"} & set(given)


def test_arguments_set_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "AWS_ENDPOINT_URL", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")
    apply_arguments(["PORT=9000", "AWS_ENDPOINT_URL=http://127.0.0.1:1/?a=b", "HF_HUB_OFFLINE=1"])
    assert os.environ["PORT"] == "9000"
    assert os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1/?a=b"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("PROT=9000", "PROT: there is no such setting; did you mean PORT?"),
        ("UVICORN_WORKER=2", "UVICORN_WORKER: there is no such setting; did you mean UVICORN_WORKERS?"),
        ("XYZ=1", "XYZ: there is no such setting; see docs/settings.md"),
        ("PORT", "PORT: settings are given as NAME=VALUE"),
    ],
)
def test_unknown_argument_names_closest_setting(argument: str, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        apply_arguments([argument])
