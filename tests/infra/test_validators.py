"""checkov and cfn-lint report faults, and each exception has a reason."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from environments.venvs import LOCKS, ensure

from tests.infra.cloudformation import ROOT, TEMPLATES

ENVIRONMENT = os.environ | {"SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1"}


def run(environment: str, tool: str, *arguments: str, where: Path = ROOT) -> str:
    """Run a tool.  Return its output if it fails, otherwise an empty string."""
    command = ensure(environment, LOCKS[environment]).with_name(tool)
    done = subprocess.run(
        [command, *arguments], cwd=where, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    return f"{done.stdout}\n{done.stderr}" if done.returncode else ""


def checkov(*arguments: str, where: Path = ROOT) -> str:
    configuration = str(ROOT / "infra" / ".checkov.yaml")
    return run("checkov", "checkov", "--config-file", configuration, *arguments, where=where)


OPEN_BUCKET = 'AWSTemplateFormatVersion: "2010-09-09"\nResources:\n  Open:\n    Type: AWS::S3::Bucket\n'


@pytest.mark.slow
def test_checkov_reports_open_bucket(tmp_path: Path) -> None:
    (tmp_path / "open.yaml").write_text(OPEN_BUCKET)
    assert "CKV_AWS_53" in checkov("--directory", str(tmp_path), where=tmp_path)


@pytest.mark.slow
def test_cfn_lint_reports_unknown_property(tmp_path: Path) -> None:
    """It finds the same faults as `sam validate --lint`, which uses the same rules for one template at a time."""
    function = tmp_path / "function.yaml"
    properties = "Handler: a.b, Runtime: python3.13, CodeUri: ., Timout: 3"
    function.write_text(
        "Transform: AWS::Serverless-2016-10-31\n"
        f"Resources: {{F: {{Type: AWS::Serverless::Function, Properties: {{{properties}}}}}}}\n"
    )
    assert "'Timout' was unexpected" in run("sam", "cfn-lint", str(function))
    assert "'Timout' was unexpected" in run("sam", "sam", "validate", "--lint", "--template-file", str(function))


def test_checkov_exceptions_have_reason() -> None:
    lines = (ROOT / "infra" / ".checkov.yaml").read_text().split("skip-check:\n")[1].splitlines()
    assert lines
    for line in lines:
        assert re.fullmatch(r"  - CKV2?_AWS_\d+ +# .{20,}", line), line
    for path in TEMPLATES.values():
        ids = re.findall(r"- id: (CKV2?_AWS_\d+)\n +comment: .{20,}", path.read_text())
        assert len(ids) == path.read_text().count("- id: CKV"), path.name
