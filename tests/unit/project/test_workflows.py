"""The workflows pin their actions, and the changelog has an entry for the version."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline import __version__

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_actions_are_pinned_by_digest(file: Path) -> None:
    used = re.findall(r"uses: ([^\s]+)", file.read_text())
    assert used
    assert [name for name in used if not re.fullmatch(r"\./\S+|[\w/-]+@[0-9a-f]{40}", name)] == []


def test_pull_requests_get_read_permissions() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "pull-request.yaml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())


def test_changelog_has_version() -> None:
    newest = re.search(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__
