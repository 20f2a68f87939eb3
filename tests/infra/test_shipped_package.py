"""The shipped package: built by Lambda's Python, inspected, and imported as by Lambda."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.package.python import VERSION, find_python
from tests.infra.cloudformation import ROOT, everywhere, template

BUILD = ROOT / "infra" / "package" / "build.py"
GLIBC_OF_AMAZON_LINUX_2023 = (2, 34)
MOST_BYTES = 250 * 1024 * 1024  # Lambda's quota for unpacked packages
HANDLERS = sorted(one["Properties"]["Handler"] for one in everywhere("AWS::Serverless::Function").values())


def test_build_refuses_other_python(tmp_path: Path) -> None:
    if sys.version_info[:2] == (3, 13):
        pytest.skip("these tests run on Lambda's Python")
    built = subprocess.run(
        [sys.executable, BUILD, tmp_path / "package"], capture_output=True, text=True, check=False
    )
    assert built.returncode != 0
    assert "Python 3.13" in built.stderr
    assert not (tmp_path / "package").exists()


def test_python_version_matches_templates() -> None:
    runtimes = {template(name)["Globals"]["Function"]["Runtime"] for name in ("http", "websocket", "background")}
    assert runtimes == {f"python{VERSION}"}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Lambda's Python, and the package that it built."""
    python = find_python()
    if python is None:
        pytest.skip(f"this machine has no Python {VERSION}")
    folder = tmp_path_factory.mktemp("package")
    subprocess.run([python, BUILD, folder], cwd=ROOT, check=True)
    return python, folder


@pytest.mark.slow
def test_wheels_fit_lambda(package: tuple[str, Path]) -> None:
    tags = re.compile(r"^Tag: (\S+)$", re.MULTILINE)
    wheels = list(package[1].glob("*.dist-info/WHEEL"))
    assert len(wheels) > 20
    for wheel in wheels:
        fitting = [tag for tag in tags.findall(wheel.read_text()) if _fits(tag)]
        assert fitting, wheel.parent.name


def _fits(tag: str) -> bool:
    python, abi, platform = tag.split("-")
    if platform == "any":
        return abi == "none" and python.startswith("py")
    glibc = re.fullmatch(r"manylinux_(\d+)_(\d+)_x86_64", platform.replace("manylinux2014", "manylinux_2_17"))
    fits_python = abi in {"cp313", "none"} or (abi == "abi3" and int(python.removeprefix("cp3")) <= 13)
    return fits_python and glibc is not None and (int(glibc[1]), int(glibc[2])) <= GLIBC_OF_AMAZON_LINUX_2023


@pytest.mark.slow
def test_libraries_fit_glibc(package: tuple[str, Path]) -> None:
    libraries = [path for path in package[1].rglob("*") if ".so" in path.name and path.is_file()]
    assert len(libraries) > 10
    for library in libraries:
        wanted = re.findall(rb"GLIBC_(\d+)\.(\d+)", library.read_bytes())
        assert max(((int(a), int(b)) for a, b in wanted), default=(2, 0)) <= GLIBC_OF_AMAZON_LINUX_2023, library


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_package_size(package: tuple[str, Path]) -> None:
    assert size_of(package[1]) < MOST_BYTES * 0.6  # c2pa has 23 MB of it


@pytest.mark.slow
def test_http_package_has_detector(package: tuple[str, Path], tmp_path: Path) -> None:
    python, folder = package
    subprocess.run([python, BUILD, "--detector", tmp_path], cwd=ROOT, check=True)
    (weights,) = tmp_path.rglob("perth_net*.pth.tar")
    assert weights.stat().st_size > 30_000_000
    assert not list((tmp_path / "perth").rglob("*.py"))
    assert not (folder / "perth").exists()
    assert size_of(tmp_path) < MOST_BYTES * 0.8


@pytest.mark.parametrize("function", ["HttpFunction", "SweepFunction"])
def test_only_http_function_is_built_with_detector(function: str) -> None:
    makefile = str(BUILD.with_name("Makefile"))
    command = ["make", "--dry-run", "--file", makefile, f"build-{function}", "ARTIFACTS_DIR=folder"]
    built = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert ("--detector" in built) is (function == "HttpFunction")


@pytest.mark.slow
@pytest.mark.parametrize("handler", HANDLERS)
def test_handler_imports_from_package_only(handler: str, package: tuple[str, Path]) -> None:
    python, folder = package
    module, _, name = handler.rpartition(".")
    program = (
        f"import sys; sys.path.insert(0, {str(folder)!r}); import importlib; "
        f"found = getattr(importlib.import_module({module!r}), {name!r}); assert callable(found); "
        "import functions, pipeline; print(functions.__file__, pipeline.__file__)"
    )
    credentials = {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "us-east-1",
        "AUTH": "keys",
    }
    # The process can import neither this repository nor installed packages.
    command = [python, "-I", "-S", "-B", "-c", program]
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], **credentials},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(folder)) == 2


@pytest.mark.slow
def test_bytecode_fits_lambda_python(package: tuple[str, Path]) -> None:
    compiled = list(package[1].rglob("*.pyc"))
    assert len(compiled) > 500
    assert {path.suffixes[0] for path in compiled if len(path.suffixes) == 2} == {".cpython-313"}
