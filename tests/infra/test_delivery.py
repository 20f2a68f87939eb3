"""The deployment from GitHub: the roles and the workflows."""

import re
from typing import Any

import pytest
import yaml

from tests.infra.cloudformation import ROOT, as_list, load

ROLES: dict[str, Any] = load(ROOT / "infra" / "github-role.yaml")["Resources"]
GITHUB = "token.actions.githubusercontent.com"
WORKFLOWS: dict[str, dict[str, Any]] = {
    name: yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yaml").read_text())
    for name in ("deploy", "deploy-one")
}


def test_deploy_role_needs_branch_workflow_and_environment() -> None:
    (statement,) = ROLES["DeployRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    (operator,) = statement["Condition"]
    assert operator == "StringEquals"
    assert statement["Condition"]["StringEquals"] == {
        f"{GITHUB}:aud": "sts.amazonaws.com",
        f"{GITHUB}:sub": {"Fn::Sub": "repo:${Repository}:environment:${Environment}"},
        f"{GITHUB}:ref": {"Fn::Sub": "refs/heads/${Branch}"},
        f"{GITHUB}:job_workflow_ref": {
            "Fn::Sub": "${Repository}/.github/workflows/deploy-one.yaml@refs/heads/${Branch}"
        },
    }
    assert (ROOT / ".github" / "workflows" / "deploy-one.yaml").is_file()


def test_deploy_role_is_limited_to_environment() -> None:
    role = ROLES["DeployRole"]["Properties"]
    assert "ManagedPolicyArns" not in role
    writes = re.compile(r":(Create|Execute|Update|Delete|Put|Complete|Initiate|Upload|Pass|Register)")
    unlimited = {
        statement["Sid"]
        for statement in _statements("DeployRole")
        if any(writes.search(action) for action in as_list(statement["Action"]))
        and not all("${Environment}" in str(one) for one in as_list(statement["Resource"]))
    }
    # A transform is public. The scaling target has no name, and the role of ECS is one for the account.
    assert unlimited == {"ExpandTemplates", "LetCloudFormationAct", "PauseScaling", "MakeTheRoleOfEcs"}


def _statements(role: str) -> list[dict[str, Any]]:
    (policy,) = ROLES[role]["Properties"]["Policies"]
    found = [one.get("Fn::If", [None, one])[1] for one in policy["PolicyDocument"]["Statement"]]
    return [statement for statement in found if "Ref" not in statement]


def test_cloudformation_role_is_no_administrator() -> None:
    role = ROLES["CloudFormationRole"]["Properties"]
    assert "AdministratorAccess" not in str(ROLES)
    assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {
        "Service": "cloudformation.amazonaws.com"
    }
    (roles,) = _statements("CloudFormationRole")
    assert all("/${StackPrefix}-${Environment}-*" in str(one) for one in roles["Resource"])


def test_only_deploy_job_may_request_token() -> None:
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {}
    with_token = {
        (name, id_)
        for name, workflow in WORKFLOWS.items()
        for id_, job in workflow["jobs"].items()
        if "id-token" in job["permissions"]
    }
    # Jobs that call a workflow grant what its jobs may request.
    assert with_token == {("deploy", "staging"), ("deploy", "production"), ("deploy-one", "deploy")}


def test_production_promotes_image_of_staging() -> None:
    jobs = WORKFLOWS["deploy"]["jobs"]
    assert "'build'" in jobs["staging"]["with"]["image"]
    assert "'promote'" in jobs["production"]["with"]["image"]
    steps = WORKFLOWS["deploy-one"]["jobs"]["deploy"]["steps"]
    assert [step["if"] for step in steps if "if" in step] == [
        "inputs.image == 'build'",
        "inputs.image == 'promote'",
        "inputs.image != 'none'",
    ]
    assert ROLES["WorkerImage"]["Condition"] == "BuildsImages"


def test_packages_are_installed_without_credentials() -> None:
    steps = WORKFLOWS["deploy-one"]["jobs"]["deploy"]["steps"]
    (credentials,) = (n for n, step in enumerate(steps) if "configure-aws-credentials" in step.get("uses", ""))
    earlier = " ".join(step.get("run", "") for step in steps[:credentials])
    assert "make .venvs/service/dev.stamp" in earlier
    assert "environments sam" in earlier


@pytest.mark.parametrize("name", ["deploy", "deploy-one"])
def test_checkout_keeps_no_credentials(name: str) -> None:
    steps = [step for job in WORKFLOWS[name]["jobs"].values() for step in job.get("steps", [])]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
