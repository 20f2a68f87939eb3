"""What AWS's own tools and checkov say of the templates, each run in an environment of its own."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from environments.venvs import LOCKS, ensure

from tests.infra.templates import ROOT, TEMPLATES

ENVIRONMENT = os.environ | {"SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1"}


def run(environment: str, tool: str, *arguments: str, where: Path = ROOT) -> str:
    """Run a tool; what it says when it finds fault, else nothing."""
    command = ensure(environment, LOCKS[environment]).with_name(tool)
    done = subprocess.run(
        [command, *arguments], cwd=where, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    return f"{done.stdout}\n{done.stderr}" if done.returncode else ""


@pytest.mark.parametrize("name", TEMPLATES)
def test_sam_takes_it(name: str) -> None:
    assert run("sam", "sam", "validate", "--lint", "--template-file", str(TEMPLATES[name])) == ""


def test_cfn_lint_has_nothing_to_say() -> None:
    assert run("sam", "cfn-lint", "--include-checks", "I", "--", *map(str, TEMPLATES.values())) == ""


def checkov(*arguments: str, where: Path = ROOT) -> str:
    configuration = str(ROOT / "infra" / ".checkov.yaml")
    return run("checkov", "checkov", "--config-file", configuration, *arguments, where=where)


def test_checkov_has_nothing_to_say() -> None:
    assert checkov("--directory", "infra") == ""


def test_checkov_is_heard(tmp_path: Path) -> None:
    (tmp_path / "open.yaml").write_text(
        'AWSTemplateFormatVersion: "2010-09-09"\nResources:\n  Open:\n    Type: AWS::S3::Bucket\n'
    )
    assert "CKV_AWS_53" in checkov("--directory", str(tmp_path), where=tmp_path)


def test_each_exception_has_its_reason() -> None:
    lines = (ROOT / "infra" / ".checkov.yaml").read_text().split("skip-check:\n")[1].splitlines()
    assert lines
    for line in lines:
        assert re.fullmatch(r"  - CKV2?_AWS_\d+ +# .{20,}", line), line
    for path in TEMPLATES.values():
        ids = re.findall(r"- id: (CKV2?_AWS_\d+)\n +comment: .{20,}", path.read_text())
        assert len(ids) == path.read_text().count("- id: CKV"), path.name
