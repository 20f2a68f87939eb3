"""The image is built from what the tests run with, and behaves as an orchestrator expects."""

import importlib.metadata
import json
import re
import runpy
import shutil
import subprocess
import sysconfig
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

from gpu_runner.engines.qwen.checkpoint import weights
from gpu_runner.engines.qwen.checkpoint.loading import warm_up_library
from pipeline.settings import Settings

ROOT = Path(__file__).parents[2]
INSTRUCTION = re.compile(r"^([A-Z]+) ((?:.*\\\n)*.*)$", re.MULTILINE)


def instructions(kind: str, stage: str | None = None) -> list[str]:
    text = (ROOT / "Dockerfile.gpu").read_text()
    if stage:
        text = re.split(rf"^FROM .* AS {stage}$", text, flags=re.MULTILINE)[1].split("\nFROM ")[0]
    found = INSTRUCTION.findall(re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return [" ".join(body.replace("\\\n", " ").split()) for name, body in found if name == kind]


def pinned(lock: str) -> dict[str, set[str]]:
    """All versions of each package in a lock; markers may choose among several."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements" / lock).read_text(), re.MULTILINE):
        versions.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(version)
    return versions


def test_image_installs_from_locks_only() -> None:
    installing = [line for line in instructions("RUN") if "pip install" in line or "qwen.py" in line]
    assert installing == [
        'PIP_EXTRA_INDEX_URL="${TORCH_INDEX_URL}" python /requirements/qwen.py --variant "${VARIANT}" '
        "&& pip install --no-deps --require-hashes --requirement /requirements/local.lock "
        "--requirement /requirements/models.lock"
    ]
    makefile = (ROOT / "Makefile").read_text()
    assert "requirements/qwen.py --variant" in makefile
    assert re.search(r"^environments: .*qwen\.stamp", makefile, re.MULTILINE)


@pytest.mark.parametrize("lock", ["qwen.lock", "qwen-tts.lock", "torch.in"])
def test_installed_versions_equal_lock(lock: str) -> None:
    installed = {
        re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower(): found.version.split("+")[0]
        for found in importlib.metadata.distributions()
    }
    pins = pinned(lock)
    assert pins
    wrong = {name: installed[name] for name in pins if name in installed and installed[name] not in pins[name]}
    assert wrong == {}
    assert {"torch", "transformers", "qwen-tts"} <= set(installed)


def test_locks_agree() -> None:
    merged: dict[str, set[str]] = {}
    for lock in (
        "qwen.lock",
        "torch-cuda.lock",
        "local.lock",
        "models.lock",
        "dev.lock",
        "qwen-tts.lock",
        "torch.in",
    ):
        for name, versions in pinned(lock).items():
            assert merged.setdefault(name, versions) == versions, f"{name} in {lock}"
    assert not any(name.startswith("nvidia-") for name in pinned("qwen.lock"))


def test_installer_uses_existing_locks() -> None:
    steps = runpy.run_path(str(ROOT / "requirements" / "qwen.py"))["steps"]
    for variant in ("cpu", "cuda"):
        lists = [step[-1] for step in steps(variant) if "uninstall" not in step]
        assert len(lists) == 3
        assert all(Path(name).is_file() for name in lists)
    assert "torch-cuda.lock" in str(steps("cuda"))
    assert "torch-cuda.lock" not in str(steps("cpu"))
    assert ("uninstall" in steps("cuda")[0]) == torch.__version__.endswith("+cpu")


def test_failed_installation_gives_next_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("subprocess.call", lambda _: 3)
    monkeypatch.setattr("sys.argv", ["qwen.py", "--variant", "cuda"])
    assert runpy.run_path(str(ROOT / "requirements" / "qwen.py"))["main"]() == 3
    message = capsys.readouterr().err
    assert "exit status 3" in message
    assert "the same command continues" in message


def test_dockerignore_matches_copied_files() -> None:
    rules = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert rules[0] == "*"
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {line.split()[0] for line in instructions("COPY") if not line.startswith("--from")}
    assert copied == kept
    assert all((ROOT / name).is_dir() for name in kept)
    assert any(
        fnmatch("gpu_runner/__pycache__/", rule.removeprefix("**/")) or rule == "**/__pycache__/" for rule in rules
    )


def test_baked_model_is_found() -> None:
    arguments = dict(line.split("=", 1) for line in instructions("ARG", "weights-baked"))
    default: str = Settings.model_fields["qwen_tts_model_id"].default
    assert arguments["QWEN_TTS_MODEL_ID"] == default
    assert arguments["QWEN_TTS_REVISION"] == weights.PINNED[default]
    baked, used = instructions("ENV", "weights-baked"), instructions("ENV", "runtime")
    assert "HF_HOME=/models" in baked
    assert "HF_HOME=/models" in used[0]


def test_image_user_owns_caches() -> None:
    assert instructions("USER", "runtime") == ["10001:10001"]
    (made,) = (line for line in instructions("RUN", "runtime") if "useradd" in line)
    assert "--owner=10001 --group=10001 /var/cache/worker" in made
    caches = {"NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"}
    given = dict(pair.split("=", 1) for pair in instructions("ENV", "runtime")[0].split())
    assert all(given[name].startswith("/var/cache/worker/") for name in caches)
    assert "--from=weights --chown=10001:10001 /models /models" in instructions("COPY", "runtime")


def test_image_has_compiler() -> None:
    assert "VARIANT=cuda" in instructions("ARG", "runtime")
    (installing,) = (line for line in instructions("RUN", "runtime") if "apt-get" in line)
    condition, packages = installing.split("then", 1)
    assert '"${VARIANT}" = cuda' in condition
    # What `kernels_for` looks for is cc, which gcc provides; Triton includes the headers of C and of Python.
    assert {"gcc", "libc6-dev"} <= set(packages.split())


def test_image_stop_signal_and_health_check() -> None:
    assert instructions("STOPSIGNAL", "runtime") == ["SIGTERM"]
    assert json.loads(instructions("ENTRYPOINT", "worker")[0]) == ["python", "-m", "gpu_runner"]
    check = instructions("HEALTHCHECK", "worker")[0]
    command = json.loads(check[check.index("[") :])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "healthcheck", "exec")
    assert "WORKER_HEALTH_PORT" in command[2]
    assert "/live" in command[2]


def test_image_settings_exist() -> None:
    names = {name.upper() for name in Settings.model_fields}
    given = {pair.split("=")[0] for pair in instructions("ENV", "runtime")[0].split()}
    given = {name for name in given if not name.endswith("_CACHE_DIR")}
    assert given - {"PATH", "PYTHONUNBUFFERED", "HF_HOME"} <= names


def test_image_warm_up_command_runs() -> None:
    (warming,) = (json.loads(line)[2] for line in instructions("RUN", "runtime") if line.startswith("["))
    assert warming.endswith("warm_up_library()")
    warm_up_library()


def test_image_python_is_supported() -> None:
    image = dict(line.split("=", 1) for line in instructions("ARG") if "=" in line)["PYTHON_IMAGE"]
    assert image.rpartition(":")[2].startswith("3.11-")  # what the locks were resolved for


def test_hadolint_passes() -> None:
    hadolint = shutil.which("hadolint", path=sysconfig.get_path("scripts")) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile.gpu")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
