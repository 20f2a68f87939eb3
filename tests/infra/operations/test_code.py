"""The command that deploys code."""

from pathlib import Path

import pytest

from infra.operations import code, history
from infra.operations.environment import Refused, load_environment
from infra.package import python
from tests.infra.cloudformation import ROOT


def test_deploy_code_builds_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`sam deploy` alone would ship sources instead of the package, and every function would fail."""
    sam = tmp_path / "sam"
    sam.write_text(f'#!/bin/sh\necho "$PYTHON $@" >> {tmp_path}/calls\n')
    sam.chmod(0o755)
    monkeypatch.setattr(code, "find_python", lambda: "/the/python")
    code.deploy_code(sam, load_environment("staging"), str, asks=False)
    build, deploy = (tmp_path / "calls").read_text().splitlines()
    assert build.startswith("/the/python build ")
    assert deploy.startswith("/the/python deploy --template-file .aws-sam/build/template.yaml ")
    assert "--config-env staging" in build
    assert "--config-env staging" in deploy
    assert "--guided" not in deploy


def test_deploy_code_build_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sam = tmp_path / "sam"
    sam.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/calls\nexit 1\n')
    sam.chmod(0o755)
    monkeypatch.setattr(code, "find_python", lambda: "/the/python")
    with pytest.raises(Refused, match=r"ended with 1"):
        code.deploy_code(sam, load_environment("default"), lambda: "no deployment failed")
    assert (tmp_path / "calls").read_text() == "build\n"


def test_deploy_code_failure_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sam = tmp_path / "sam"
    sam.write_text('#!/bin/sh\ntest "$1" = build\n')
    sam.chmod(0o755)
    monkeypatch.setattr(code, "find_python", lambda: "/the/python")
    with pytest.raises(Refused, match=r"ended with 1.* Service: circuit breaker"):
        code.deploy_code(sam, load_environment("default"), lambda: "Service: circuit breaker")


def test_deploy_code_uses_cloudformation_role(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sam = tmp_path / "sam"
    sam.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    sam.chmod(0o755)
    monkeypatch.setattr(code, "find_python", lambda: "/the/python")
    monkeypatch.setenv("CLOUDFORMATION_ROLE", "arn:aws:iam::1:role/r")
    code.deploy_code(sam, load_environment("default"), str)
    assert "--role-arn arn:aws:iam::1:role/r" in (tmp_path / "calls").read_text().splitlines()[1]


def test_deploy_code_requires_lambda_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "find_python", lambda: None)
    with pytest.raises(Refused, match=r"Python 3\.13"):
        code.deploy_code(Path("/no/sam"), load_environment("default"), str)


def test_find_python_skips_broken_shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, says in (("shim", "exit 127"), ("other", "echo 3.12"), ("right", "echo 9.99")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(
        python, "_candidates", lambda _: [str(tmp_path / name) for name in ("gone", "shim", "other", "right")]
    )
    assert python.find_python("9.99") == str(tmp_path / "right")
    assert python.find_python("8.88") is None


def test_checkout_uses_separate_folder() -> None:
    here = history.commit_here().removesuffix("-dirty")
    with code.checkout(here) as place:
        assert (place / "template.yaml").is_file()
        assert place != ROOT
    assert not place.exists()
    with pytest.raises(Refused, match="not committed"), code.checkout(f"{here}-dirty"):
        pass
