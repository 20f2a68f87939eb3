"""The bill of materials of the images."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SBOM = runpy.run_path(str(ROOT / "requirements" / "sbom.py"))


def test_components_are_locked_for_this_machine(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text(
        "numpy==1.0 ; python_version < '3' \\\n    --hash=sha256:00\n"
        "numpy==2.0 ; python_version >= '3' \\\n    --hash=sha256:00\n# a comment\nPyYAML==6.0\n"
    )
    found = [one["purl"] for one in SBOM["python_components"]([lock])]
    assert found == ["pkg:pypi/numpy@2.0", "pkg:pypi/pyyaml@6.0"]


def test_document_lists_component_once() -> None:
    component = {"type": "library", "name": "a", "version": "1", "purl": "pkg:pypi/a@1", "bom-ref": "pkg:pypi/a@1"}
    document = SBOM["document"]([component, component])
    assert document["components"] == [component]
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")


@pytest.mark.parametrize("lock", ["local", "models", "qwen"])
def test_locks_of_images_are_readable(lock: str) -> None:
    components = list(SBOM["python_components"]([ROOT / "requirements" / f"{lock}.lock"]))
    assert components
    assert all(one["version"][0].isdigit() for one in components)
