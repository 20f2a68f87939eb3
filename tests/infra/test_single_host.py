"""The single-host set-up: compose services, systemd units and backups."""

import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from backup import BackupFailed, restore, save
from embedded.storage.data_folder import CREDENTIALS_FILE, lock_of
from supervision.local_settings import LocalSettings

from pipeline.settings import Settings
from tests.infra.cloudformation import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "localstack" / "compose.yaml").read_text())
OURS = {name: one for name, one in COMPOSE["services"].items() if not one.get("profiles")}
UNITS = ROOT / "infra" / "systemd"


# compose


def test_compose_services_exist() -> None:
    assert set(OURS) == {"network", "store", "api", "worker", "pump", "schedule"}
    for name, one in OURS.items():
        for file in (part for part in one["entrypoint"] if part.endswith(".py")):
            assert (ROOT / file).is_file(), name
        if one["entrypoint"][:2] == ["python", "-m"]:
            assert (ROOT / one["entrypoint"][2] / "__main__.py").is_file(), name


@pytest.mark.parametrize("name", OURS)
def test_compose_service_is_hardened(name: str) -> None:
    one = OURS[name]
    assert one["restart"] == "unless-stopped"
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    if name != "network":  # which runs no program
        assert one["healthcheck"]["test"][0] == "CMD"


def test_compose_publishes_api_with_keys() -> None:
    assert [name for name, one in OURS.items() if "ports" in one] == ["network"]
    assert OURS["network"]["ports"] == ["${ADDRESS:-127.0.0.1}:${PORT:-8000}:8000"]
    assert all(one["network_mode"] == "service:network" for name, one in OURS.items() if name != "network")
    settings = Settings(host=OURS["api"]["environment"]["HOST"])
    assert settings.wants_keys


def test_compose_variables_are_settings() -> None:
    known = {name.upper() for name in [*Settings.model_fields, *LocalSettings.model_fields]}
    known |= {"AWS_SHARED_CREDENTIALS_FILE", "READY_FILE"}
    for name, one in OURS.items():
        assert set(one.get("environment", {})) <= known, name


def test_compose_services_use_store() -> None:
    port = OURS["store"]["environment"]["STORE_PORT"]
    for name in ("api", "worker", "pump", "schedule"):
        environment = OURS[name]["environment"]
        assert environment["AWS_ENDPOINT_URL"] == f"http://127.0.0.1:{port}"
        # The store keeps its credentials in the data folder, which is read-only for the other services.
        assert environment["AWS_SHARED_CREDENTIALS_FILE"] == f"/data/{CREDENTIALS_FILE}"
        assert "data:/data:ro" in OURS[name]["volumes"]
    assert OURS["store"]["volumes"] == ["data:/data"]


def test_compose_worker_stop_grace_period() -> None:
    assert int(OURS["worker"]["stop_grace_period"].removesuffix("s")) > Settings().worker_drain_seconds


def test_compose_gpu_worker_uses_cuda() -> None:
    worker = yaml.safe_load((ROOT / "localstack" / "compose.gpu.yaml").read_text())["services"]["worker"]
    assert worker["environment"] == {"TTS_BACKEND": "qwen", "DEVICE": "cuda"}
    assert worker["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


# systemd


@pytest.mark.parametrize("unit", sorted(path.name for path in UNITS.iterdir()))
def test_systemd_unit_is_valid(unit: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    for path in UNITS.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/voice-cloning", str(ROOT)))
    done = subprocess.run(
        [analyze, "verify", "--man=no", tmp_path / unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_scripts_exist() -> None:
    services = list(UNITS.glob("*.service"))
    assert services
    for path in services:
        (script,) = re.findall(r"^ExecStart=\S+/python (\S+)", path.read_text(), re.MULTILINE)
        assert (ROOT / script).is_file()


# backup


def test_restore_omits_runtime_files(tmp_path: Path) -> None:
    data, other, file = tmp_path / "data", tmp_path / "other", tmp_path / "backups" / "data.tar.gz"
    for name in ("s3/bucket/audio/voices/nova/metadata.json", "run/store.json", "in-use.lock"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(name)
    save(data, file)
    restore(other, file)
    restored = {str(path.relative_to(other)) for path in other.rglob("*") if path.is_file()} - {"in-use.lock"}
    assert restored == {"s3/bucket/audio/voices/nova/metadata.json"}
    assert [path.name for path in file.parent.iterdir()] == ["data.tar.gz"]


def test_restore_refuses_existing_data(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "data.tar.gz"
    (data / "s3").mkdir(parents=True)
    save(data, file)
    with pytest.raises(BackupFailed, match="not empty"):
        restore(data, file)


def test_restore_refuses_running_service(tmp_path: Path) -> None:
    data, empty, file = tmp_path / "data", tmp_path / "empty", tmp_path / "data.tar.gz"
    data.mkdir()
    empty.mkdir()
    save(data, file)
    with lock_of(empty), pytest.raises(BackupFailed, match="in use"):
        restore(empty, file)


def test_restore_invalid_archive(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no archive")
    with pytest.raises(BackupFailed, match="can't be restored"):
        restore(tmp_path / "data", tmp_path / "file")
    with pytest.raises(BackupFailed, match="not there"):
        save(tmp_path / "nowhere", tmp_path / "x.tar.gz")


def test_restore_refuses_path_traversal(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../outside"))
    with pytest.raises(BackupFailed, match="outside"):
        restore(tmp_path / "data", tmp_path / "evil.tar.gz")
    assert not (tmp_path / "outside").exists()
