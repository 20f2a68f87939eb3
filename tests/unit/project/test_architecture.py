"""Rules that import-linter's contracts in pyproject.toml do not cover."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("pipeline", "functions", "gpu_runner")

FILES = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]


def test_module_names_have_subject() -> None:
    names = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base", "shared", "manager"}
    for folder in (*PACKAGES, "localstack", "tests"):
        modules = {file.stem for file in (ROOT / folder).rglob("*.py")}
        assert modules
        assert not modules & names


def test_folder_entries_are_limited() -> None:
    for folder in {file.parent for file in FILES}:
        entries = {entry.name for entry in folder.iterdir()} - {"__init__.py", "__main__.py", "__pycache__"}
        assert len(entries) <= 13, f"{folder.relative_to(ROOT)} has {len(entries)} entries"


def test_localstack_is_no_package() -> None:
    assert not (ROOT / "localstack" / "__init__.py").exists()


def test_modules_have_docstrings() -> None:
    for file in FILES:
        assert ast.get_docstring(ast.parse(file.read_text())), file
