"""The commands of docs/operating.md, in order, against an account; and its `aws` commands against AWS's models."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from infra.operations import code
from infra.operations.__main__ import main
from infra.operations.history import read_history
from tests.infra.cloudformation import ROOT
from tests.infra.operations.deployed_account import VOICES, DeployedAccount

PAGE = (ROOT / "docs" / "operating.md").read_text()
SECTIONS = ("Deploy", "Update", "Roll back", "Tear down")
# Commands of the AWS CLI that are no operations of an API.
CLI_ONLY = {("cloudformation", "deploy")}


class NewAccount(DeployedAccount):
    """An account without a stack.  `sam deploy` and `docker push` are scripts that record their calls."""

    def __init__(self, calls: Path) -> None:
        super().__init__(status=None)
        self._calls, self._seen = calls, 0

    def _take_calls(self) -> None:
        calls = self._calls.read_text().splitlines() if self._calls.exists() else []
        for call in calls[self._seen :]:
            match call.split():
                case ["sam", "deploy", *_]:
                    self.status = "UPDATE_COMPLETE" if self.status else "CREATE_COMPLETE"
                case ["docker", "push", image]:
                    tag = image.rpartition(":")[2]
                    self.images[tag] = f"sha256:{tag}"
        self._seen = len(calls)

    def describe_stacks(self, **request: Any) -> dict[str, Any]:
        self._take_calls()
        return super().describe_stacks(**request)

    def describe_images(self, **request: Any) -> dict[str, Any]:
        self._take_calls()
        return super().describe_images(**request)


def commands(section: str) -> list[str]:
    """Return the lines of all shell blocks of a section and its subsections."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def arguments_of(command: str, sam: Path) -> list[str]:
    """Return the arguments that the Makefile gives to the program of the operations."""
    _, *given = shlex.split(command)
    printed = subprocess.run(["make", "--dry-run", *given], cwd=ROOT, capture_output=True, text=True, check=True)
    (line,) = (one for one in printed.stdout.splitlines() if "infra.operations" in one)
    found = shlex.split(line.split("infra.operations", 1)[1])
    return [str(sam) if part.endswith("/sam") else part for part in found]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `sam` and `docker`, which record their calls in the file `calls`."""
    for name in ("sam", "docker"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(code, "find_python", lambda: "/the/python")
    return tmp_path


def test_runbook_commands_succeed_in_order(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    account = NewAccount(tools / "calls")

    def run(command: str) -> None:
        arguments = arguments_of(command, tools / "sam")
        assert main(arguments, make_clients=lambda _: account) == 0, (command, capsys.readouterr().err)

    images: list[str] = []
    for section in SECTIONS:
        for command in commands(section):
            if command.startswith("make ") and not command.startswith("make deploy-local"):
                run(command)
                images.append(account.image)
                account.desired = 0  # as after idle minutes
                account.sleep(60)
        if section == "Update":
            assert [version.image_tag for version in read_history(account, "s")] == ["", "v1", "v1", "v2"]
    # preflight, deploy, image, worker; deploy, image, worker; rollback, worker; teardown
    assert images == ["", "", "", "v1", "v1", "v1", "v2", "v1", "v1", "v1"]
    assert account.status is None
    assert account.objects == []
    assert f"KeptVoicesBucket={VOICES}" in capsys.readouterr().out
    run(commands("Tear down")[0])
    assert "Nothing to delete" in capsys.readouterr().out


def test_first_deployment_failure_is_recoverable(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    account = NewAccount(tools / "calls")
    account.status = "ROLLBACK_COMPLETE"
    deploy, teardown = "make deploy", commands("Tear down")[0]
    assert main(arguments_of(deploy, tools / "sam"), make_clients=lambda _: account) == 1
    assert "make teardown STACK=voice-cloning" in capsys.readouterr().err
    for command in (teardown, deploy):
        assert main(arguments_of(command, tools / "sam"), make_clients=lambda _: account) == 0
    assert account.status == "CREATE_COMPLETE"


def aws_commands() -> list[str]:
    """Return all `aws` commands of the page, in blocks and in the text."""
    text = re.sub(r"\s*\\\n\s*", " ", PAGE)
    found = re.findall(r"(?:^|`|do |  )(aws [a-z0-9-]+ [a-z0-9-]+[^`|\n]*)", text, re.MULTILINE)
    assert len(found) >= 5
    return found


@pytest.mark.parametrize("command", aws_commands())
def test_aws_command_matches_model(command: str) -> None:
    service, operation, *more = shlex.split(command.replace("'", "").replace('"', "").removesuffix("; done"))[1:]
    if (service, operation) in CLI_ONLY:
        return
    model = botocore.session.Session().get_service_model({"s3api": "s3"}.get(service, service))
    name = next(one for one in model.operation_names if xform_name(one, "-") == operation)
    shape = model.operation_model(name).input_shape
    assert shape is not None
    options = {part for part in more if part.startswith("--")} - {"--query", "--output", "--region"}
    assert options <= {f"--{xform_name(member, '-')}" for member in shape.members}
