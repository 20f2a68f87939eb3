"""The images, built and run with buildah on a bootstrapped Debian, without a registry or a container engine.

The tests take ten minutes and 8 GB of disk.  They run only as root and after
`apt-get install buildah debootstrap`.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from supervision.ports import free_port

from tests.e2e.client import Client, recording
from tests.e2e.stack import read_log, wait_until
from tests.infra.cloudformation import ROOT

TOOLS = ("buildah", "debootstrap", "tar")
missing = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.qwen,
    pytest.mark.xdist_group("image"),
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="bootstrapping a system requires root"),
]

HOST = "127.0.0.1"
BASE = "public.ecr.aws/docker/library/python:3.11-slim-bookworm"
# Kept between runs, like the venvs: the base image and unchanged layers.
STORE = ROOT / ".venvs" / "images"
# Configuration of the network and the package indexes, mounted during a build.
CONFIGURATION = ("/etc/apt", "/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs", "/etc/resolv.conf")
STOP_SECONDS = 120
# buildah has no read-only root.  These folders are mounted read-only instead, the rest belongs to root.
READ_ONLY = ("app", "home", "opt", "usr")


def package_folders() -> set[str]:
    """Return the local folders with packages that pip is configured to use."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    configured = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    paths = re.findall(r"(?<![\w.])(?:file://)?(/[^\s']+)", configured)
    return {path.removesuffix("/simple") for path in paths if not path.startswith("/etc/")}


def build_model(folder: Path) -> None:
    """Build a tiny checkpoint.  The import is local because the first tier runs without torch."""
    from tests.qwen import tiny_checkpoint

    tiny_checkpoint.build(folder)


STORAGE = ["--root", str(STORE / "root"), "--runroot", str(STORE / "run"), "--storage-driver", "overlay"]


def buildah(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    command = ["buildah", *STORAGE, *arguments]
    return subprocess.run(command, check=True, text=True, **more)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def base() -> None:
    """A Debian with Python, tagged as the base image."""
    STORE.mkdir(parents=True, exist_ok=True)
    if (
        BASE.rpartition("/")[2]
        in buildah("images", "--format", "{{.Name}}:{{.Tag}}", stdout=subprocess.PIPE).stdout
    ):
        return
    system = STORE / "debian"
    packages = "python3,python3-venv,python3-pip,ca-certificates"
    subprocess.run(["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", system], check=True)
    (system / "usr" / "bin" / "python").symlink_to("python3")
    subprocess.run(["tar", "-C", system, "-cf", STORE / "debian.tar", "."], check=True)
    container = buildah("from", "scratch", stdout=subprocess.PIPE).stdout.strip()
    buildah("add", container, str(STORE / "debian.tar"), "/")
    buildah("commit", "--rm", container, BASE)
    shutil.rmtree(system)
    (STORE / "debian.tar").unlink()


@pytest.fixture(scope="module")
def build(base: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A function that builds a target for the CPU and returns the image name."""
    # buildah does not resolve stage names from build arguments.
    gpu = tmp_path_factory.mktemp("image") / "Dockerfile"
    gpu.write_text((ROOT / "Dockerfile.gpu").read_text().replace("weights-${WEIGHTS}", "weights-none"))
    paths = [path for path in (*CONFIGURATION, *sorted(package_folders())) if Path(path).exists()]
    mounts = [part for path in paths for part in ("-v", f"{path}:{path}:ro")]

    def make(target: str, dockerfile: Path = gpu) -> str:
        how = [
            "--layers",
            "--isolation",
            "chroot",
            "--network",
            "host",
            "--pull-never",
            "--build-arg",
            "VARIANT=cpu",
        ]
        name = f"voice-{target}-{'gpu' if dockerfile == gpu else 'cpu'}"
        buildah("bud", *how, *mounts, "-f", str(dockerfile), "--target", target, "-t", name, str(ROOT))
        return name

    return make


class Container:
    """A container that runs the entry point of an image."""

    def __init__(self, image: str, environment: dict[str, str], mounts: Sequence[str], log: Path) -> None:
        self.name = buildah("from", "--pull-never", image, stdout=subprocess.PIPE).stdout.strip()
        self.log = log
        root = buildah("mount", self.name, stdout=subprocess.PIPE).stdout.strip()
        mounts = [*(f"{root}/{folder}:/{folder}:ro" for folder in READ_ONLY), *mounts]
        given = [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
        self._how = [
            "--isolation",
            "chroot",
            "--network",
            "host",
            *given,
            *(f"--volume={mount}" for mount in mounts),
        ]
        inspected = json.loads(buildah("inspect", self.name, stdout=subprocess.PIPE).stdout)
        entrypoint = inspected["OCIv1"]["config"]["Entrypoint"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(self._command(entrypoint), stdout=output, stderr=output)

    def _command(self, command: Sequence[str]) -> list[str]:
        return ["buildah", *STORAGE, "run", *self._how, self.name, "--", *command]

    def run(self, *command: str) -> str:
        """Run a command in the container as `docker exec` does, and return its output.

        A second `buildah run` may replace the mounted volume by an empty one.
        """
        main = self._find("localstack/supervisor.py")
        enter = ["nsenter", "--target", str(main.pid), "--mount", "--root", "--wd"]
        user = ["--setuid", str(main.uids().real), "--setgid", str(main.gids().real)]
        done = subprocess.run(
            [*enter, *user, "--", *command], env=main.environ(), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def logged(self) -> str:
        return read_log(self.log)

    def owners(self) -> set[int]:
        """Return the user ids of its processes."""
        inside = [one for one in self._processes() if "python" in one.name()]
        return {one.uids().real for one in inside}

    def stop(self) -> None:
        """Stop it like a container engine: send SIGTERM to its first process and wait for the end."""
        self.terminate("localstack/supervisor.py")
        self._process.wait(STOP_SECONDS)

    def terminate(self, *command: str) -> psutil.Process:
        """Send SIGTERM to the Python process whose command line ends with these arguments."""
        found = self._find(*command)
        found.send_signal(signal.SIGTERM)
        return found

    def _find(self, *command: str) -> psutil.Process:
        of_python = [one for one in self._processes() if one.cmdline()[0].endswith("/python")]
        (found,) = (one for one in of_python if tuple(one.cmdline()[-len(command) :]) == command)
        return found

    def wait(self) -> int:
        """Wait for its end and return the exit status."""
        return self._process.wait(STOP_SECONDS)

    def _processes(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children(recursive=True)

    def remove(self) -> None:
        if self._process.poll() is None:
            for process in self._processes():
                process.kill()
            self._process.wait(30)
        buildah("rm", self.name)


@pytest.fixture(scope="module")
def single(build: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Container, int]]:
    """The whole service in one container with a tiny model, and its port."""
    folder = tmp_path_factory.mktemp("single")
    folder.chmod(0o755)
    model, data = folder / "model", folder / "data"
    build_model(model)
    (model / "model.safetensors").chmod(0o644)
    (model / "speech_tokenizer" / "model.safetensors").chmod(0o644)
    data.mkdir()
    os.chown(data, 10001, 10001)
    port = free_port(HOST)
    environment = {
        "PORT": str(port),
        "QWEN_TTS_MODEL_ID": "/models/tiny",
        "TORCH_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    mounts = [f"{model}:/models/tiny:ro", f"{data}:/data"]
    container = Container(build("single"), environment, mounts, folder / "log")
    try:
        wait_until(lambda: "Listening on" in container.logged(), "listening", 300)
        yield container, port
    finally:
        container.remove()


# the image of `Dockerfile`: the whole service on the CPU


@pytest.fixture(scope="module")
def whole(
    build: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Container, int]]:
    """The image, a container with an empty volume, and its port."""
    folder = tmp_path_factory.mktemp("whole")
    data = folder / "data"
    data.mkdir()
    os.chown(data, 10001, 10001)
    port = free_port(HOST)
    image = build("single", ROOT / "Dockerfile")
    container = Container(image, {"PORT": str(port)}, [f"{data}:/data"], folder / "log")
    try:
        wait_until(lambda: "Listening on" in container.logged(), "listening", 60)
        yield image, container, port
    finally:
        container.remove()


def test_whole_image_is_small_and_unprivileged(whole: tuple[str, Container, int]) -> None:
    image, container, _ = whole
    size = buildah("images", "--format", "{{.Size}}", image, stdout=subprocess.PIPE).stdout.split()
    assert size[1] == "MB"
    assert float(size[0]) < 600
    assert container.owners() == {10001}


def test_whole_image_prints_key_and_synthesizes(whole: tuple[str, Container, int]) -> None:
    _, container, port = whole
    (key,) = re.findall(r"^KEY=(vck_\w+)$", container.logged(), re.MULTILINE)
    assert Client(f"http://{HOST}:{port}", f"ws://{HOST}:{port}/ws").get("/voices").status_code == 401
    client = Client(f"http://{HOST}:{port}", f"ws://{HOST}:{port}/ws", key)
    answer = client.speak_as(recording(150, seconds=4), "Hello.", Prefer="wait=25")
    assert answer.status_code == 200, container.logged()[-3000:]
    assert answer.content[:4] == b"RIFF"


def test_whole_image_lists_components(whole: tuple[str, Container, int]) -> None:
    listed = json.loads(whole[1].run("cat", "sbom.json"))
    assert listed["bomFormat"] == "CycloneDX"
    packages = {one["purl"].split("@")[0] for one in listed["components"]}
    assert {"pkg:pypi/hibari-tts", "pkg:pypi/silero-vad", "pkg:pypi/ministack", "pkg:deb/debian/libc6"} <= packages


# the images of `Dockerfile.gpu`


def test_image_runs_as_unprivileged_user(single: tuple[Container, int]) -> None:
    assert single[0].owners() == {10001}


def test_image_requires_key_and_synthesizes(single: tuple[Container, int]) -> None:
    container, port = single
    url, socket_url = f"http://{HOST}:{port}", f"ws://{HOST}:{port}/ws"
    assert Client(url, socket_url).get("/voices").status_code == 401
    key = container.run("python", "localstack/keys.py", "make", "--owner", "me")
    client = Client(url, socket_url, key)
    wait_until(lambda: client.get("/health").json().get("worker") == "ready", "the worker ready", 300)
    answer = client.speak_as(recording(150, seconds=4), "Hello.", Prefer="wait=25")
    assert answer.status_code == 200, container.logged()[-3000:]
    assert answer.content[:4] == b"RIFF"


def test_image_has_no_unexpected_writable_dirs(single: tuple[Container, int]) -> None:
    # Compose mounts volumes at the first two and tmpfs at the next two.  Debian's others are unused.
    expected = ("/data", "/models", "/tmp", "/var/cache/worker", "/var/tmp", "/run/lock")
    excluded = [part for path in ("/proc", "/sys", "/dev", *expected) for part in ("-path", path, "-prune", "-o")]
    find = ["find", "/", *excluded, "-type", "d", "-writable", "-print"]
    # `find` fails for unreadable folders.
    assert single[0].run("sh", "-c", f"{shlex.join(find)} 2>/dev/null; true") == ""


def test_stopped_worker_finishes_jobs(single: tuple[Container, int]) -> None:
    container, port = single
    key = container.run("python", "localstack/keys.py", "make", "--owner", "me")
    client = Client(f"http://{HOST}:{port}", f"ws://{HOST}:{port}/ws", key)
    audio = recording(150, seconds=4)
    answers = [client.speak_as(audio, "A longer text. " * 8, Prefer="respond-async") for _ in range(12)]
    jobs = [answer.headers["location"] for answer in answers]

    def ended() -> int:
        return sum(client.get(job).json()["status"] == "succeeded" for job in jobs)

    wait_until(lambda: ended() > 0, "the first spoken", 120)
    began = time.monotonic()
    container.terminate("-m", "gpu_runner").wait(STOP_SECONDS)
    assert time.monotonic() - began < STOP_SECONDS
    assert '"event": "draining"' in container.logged()
    # The supervisor starts another worker for the remaining jobs.
    wait_until(lambda: ended() == len(jobs), "all spoken", 300)


def test_image_stops_in_time(single: tuple[Container, int]) -> None:
    container, _ = single
    began = time.monotonic()
    container.stop()
    assert time.monotonic() - began < 20
    for name in ("api", "worker", "embedded AWS"):
        assert f"{name} stopped" in container.logged()


def test_worker_unreadable_weights_error(build: Callable[..., str], tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    build_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").chmod(0o600)
    environment = {"QWEN_TTS_MODEL_ID": "/models/tiny", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    container = Container(build("worker"), environment, [f"{tmp_path / 'model'}:/models/tiny:ro"], tmp_path / "log")
    try:
        assert container.wait() != 0
        assert "model.safetensors in /models/tiny can't be read" in container.logged()
        assert "Traceback" not in container.logged()
    finally:
        container.remove()
