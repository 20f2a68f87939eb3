"""Imports only go down, and nothing is called after what it is not."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "functions", "gpu_runner")
LAYERS = (
    {"ids", "errors"},
    {"owners", "settings", "records", "layout", "retention"},
    {"storage", "queues", "connections", "audio", "wav", "logs", "resources"},
    {"keyring", "keys", "shares", "tickets", "sessions", "voices", "jobs", "events", "links"},
)


def modules(package: str) -> dict[str, Path]:
    files = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in (ROOT / package).rglob("*.py")
    }
    return {name.removesuffix(".__init__"): file for name, file in files.items()}


ALL = {name: file for package in PACKAGES for name, file in modules(package).items()}


def imports(file: Path) -> set[str]:
    """Every module that is imported anywhere in a file, names imported from packages of ours included."""
    found = set[str]()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            module = node.module or ""
            submodules = {f"{module}.{alias.name}" for alias in node.names} & set(ALL)
            found |= submodules or {module}
    return found


def packages_imported(package: str) -> set[str]:
    return {name.split(".")[0] for file in modules(package).values() for name in imports(file)}


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("functions", {"gpu_runner", "localstack", "torch", "tests"}),
        ("gpu_runner", {"functions", "localstack", "fastapi", "uvicorn", "tests"}),
        (
            "pipeline",
            {"functions", "gpu_runner", "localstack", "fastapi", "starlette", "uvicorn", "torch", "tests"},
        ),
    ],
)
def test_rooms_do_not_know_what_they_should_not(package: str, forbidden: set[str]) -> None:
    assert modules(package)
    assert not packages_imported(package) & forbidden


def test_only_an_engine_knows_torch() -> None:
    knowing = {name for name, file in ALL.items() if any(one.split(".")[0] == "torch" for one in imports(file))}
    assert all(name.startswith("gpu_runner.engines.") for name in knowing)


def test_every_module_of_the_pipeline_has_its_floor() -> None:
    floors = set().union(*LAYERS)
    assert {name.removeprefix("pipeline.") for name in modules("pipeline")} - {"pipeline"} == floors


def test_imports_in_the_pipeline_never_go_up() -> None:
    floor_of = {f"pipeline.{name}": number for number, layer in enumerate(LAYERS) for name in layer}
    for name, file in modules("pipeline").items():
        for imported in imports(file) & set(floor_of):
            assert floor_of[imported] <= floor_of[name], f"{name} imports {imported}"


def test_imports_go_in_no_circle() -> None:
    sorter = graphlib.TopologicalSorter({name: imports(file) & set(ALL) - {name} for name, file in ALL.items()})
    sorter.prepare()  # raises CycleError, which names the circle


def test_no_module_is_a_heap() -> None:
    heaps = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base", "shared", "manager"}
    for folder in (*PACKAGES, "localstack", "tests"):
        assert not {file.stem for file in (ROOT / folder).rglob("*.py")} & heaps


def test_the_local_cloud_never_shadows_the_real_package() -> None:
    assert not (ROOT / "localstack" / "__init__.py").exists()


def test_every_module_says_what_it_is() -> None:
    for name, file in ALL.items():
        assert ast.get_docstring(ast.parse(file.read_text())), name
