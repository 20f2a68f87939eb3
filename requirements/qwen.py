"""Installs what the `qwen` engine needs into the environment of the Python that runs this.

    .venvs/service/bin/python requirements/qwen.py [--variant auto|cpu|cuda]

`auto` takes the CUDA build of torch where there is an NVIDIA GPU.  The CPU build for Linux is not on PyPI: where
pip finds none (in an index that PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS names), the CUDA build is taken; that runs
on a CPU too, and is several GB larger.
"""

import argparse
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
INSTALLER = str(HERE / "install.py")
PIP = ("-m", "pip")
FAILURE = """
The installation failed (exit status {status}). The lines above give the host and the reason.
Packages that were downloaded completely are kept in the cache, and the same command continues there.
Check the network and the disk space, or set PIP_INDEX_URL to another package index."""
GPU_FILES = ("/dev/nvidia0", "/proc/driver/nvidia/gpus", "/dev/dxg")


def main() -> int:
    """Install, and return the exit status of the installer that failed, or 0."""
    parser = argparse.ArgumentParser(description="Install what the qwen engine needs.")
    parser.add_argument("--variant", choices=["auto", "cpu", "cuda"], default="auto", help="build of torch")
    asked = parser.parse_args().variant
    variant = chosen(asked)
    print(f"Installing Qwen3-TTS with torch for {variant} ({asked} was asked), up to several GB", flush=True)
    for step in steps(variant):
        status = subprocess.call([sys.executable, *step])
        if status:
            print(FAILURE.format(status=status), file=sys.stderr)
            return status
    return 0


def chosen(variant: str) -> str:
    """Resolve `auto`."""
    if variant != "auto":
        return variant
    has_gpu = shutil.which("nvidia-smi") is not None or any(Path(name).exists() for name in GPU_FILES)
    return "cuda" if has_gpu else "cpu"


def steps(variant: str) -> list[list[str]]:
    """List the arguments of Python, in order."""
    locks = {name: [INSTALLER, str(HERE / f"{name}.lock")] for name in ("qwen", "qwen-tts")}
    # By pip, which shows the bytes and the remaining time of these large packages.
    cuda_build = [*PIP, "install", "--no-deps", "--require-hashes", "--requirement", str(HERE / "torch-cuda.lock")]
    # Without hashes: the build depends on the index.
    cpu_build = [*PIP, "install", "--requirement", str(HERE / "torch.in")]
    # To pip, a build for the CPU is as good as the one for CUDA: it has to make way.
    first = [[*PIP, "uninstall", "--yes", "torch"]] if variant == "cuda" and is_cpu_build(installed_torch()) else []
    return [*first, locks["qwen"], cuda_build if variant == "cuda" else cpu_build, locks["qwen-tts"]]


def is_cpu_build(version: str) -> bool:
    """Return it by the version."""
    return version.endswith("+cpu")


def installed_torch() -> str:
    """Return the version of torch that is installed; empty when none is."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
