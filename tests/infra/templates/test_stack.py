"""The stack as a whole: parameters, nested templates, policies and deployments."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.simulation.cloudformation import read_resources
from pipeline.contract import layout
from pipeline.settings import Settings
from tests.infra.cloudformation import (
    ROOT,
    TEMPLATES,
    as_list,
    everywhere,
    nested,
    resources,
    template,
)


def test_templates_contain_no_secrets() -> None:
    text = "".join(path.read_text() for path in TEMPLATES.values())
    assert not re.search(r"(AKIA|ASIA)[A-Z0-9]{16}|vck_|-----BEGIN|password|hooks\.slack", text, re.IGNORECASE)


def test_wildcard_resources_have_comment() -> None:
    found = 0
    for name, path in TEMPLATES.items():
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.search(r"Resource: (\"\*\"|.*[^a-z]\*$)", line) and not re.search(r"s3:::", line):
                assert lines[number - 1].strip().startswith("#"), f"{name}: {line}"
                found += 1
    assert found


def test_wildcard_actions_only_denied() -> None:
    found = 0
    for name in TEMPLATES:
        for id_, one in resources(name).items():
            for statement in _statements(one):
                wild = [action for action in as_list(statement["Action"]) if "*" in action]
                assert not wild or statement["Effect"] == "Deny", f"{name}.{id_}: {wild}"
                found += len(wild)
    assert found


def _statements(resource: dict[str, Any]) -> list[dict[str, Any]]:
    own = resource.get("Properties", {})
    documents = [policy["PolicyDocument"] for policy in own.get("Policies", [])] + [own.get("PolicyDocument")]
    return [
        statement
        for document in documents
        if "Statement" in (document or {})
        for statement in document["Statement"]
    ]


def test_policy_prefixes_match_layout() -> None:
    prefixes = {value for name, value in vars(layout).items() if name.isupper() and str(value).endswith("/")}
    found = set()
    for path in TEMPLATES.values():
        found |= set(re.findall(r":s3:::\$\{\w+Bucket\}/([a-z/-]+/)", path.read_text()))
    assert found == prefixes


def test_parameter_defaults_match_code() -> None:
    parameters = template("root")["Parameters"]
    # GPU workers have a larger batch than the default.
    assert parameters["WorkerBatchSize"]["Default"] >= Settings().worker_batch_size
    assert parameters["BacklogPerWorker"]["Default"] <= parameters["WorkerBatchSize"]["Default"]
    assert parameters["LogLevel"]["Default"] == Settings().log_level


def test_parameters_have_default_and_description() -> None:
    grouped = template("root")["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    parameters = template("root")["Parameters"]
    assert sorted(name for group in grouped for name in group["Parameters"]) == sorted(parameters)
    for name, parameter in parameters.items():
        assert "Default" in parameter, name
        assert len(parameter["Description"]) > 20, name


def test_nested_template_parameters() -> None:
    assert set(nested()) == set(TEMPLATES) - {"root"}
    for name, (_, given) in nested().items():
        asked = template(name).get("Parameters", {})
        assert set(given) <= set(asked), name
        assert {key for key, parameter in asked.items() if "Default" not in parameter} <= set(given), name


def test_nested_template_outputs() -> None:
    for outer in {outer for outer, _ in nested().values()}:
        asked = re.findall(r"(\w+)\.Outputs\.(\w+)", TEMPLATES[outer].read_text())
        assert asked
        for application, output in asked:
            name = Path(resources(outer)[application]["Properties"]["Location"]).stem
            assert output in template(name)["Outputs"], f"{application}.{output}"


def test_templates_have_no_yaml_anchors() -> None:
    for name, path in TEMPLATES.items():
        tokens = yaml.scan(path.read_text(), Loader=yaml.SafeLoader)
        assert not any(isinstance(token, yaml.AnchorToken | yaml.AliasToken) for token in tokens), name


def test_samconfig_capabilities() -> None:
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    assert config["default"]["deploy"]["parameters"]["capabilities"].split() == [
        "CAPABILITY_IAM",
        "CAPABILITY_AUTO_EXPAND",
    ]


def deployed(**parameters: str) -> set[str]:
    """Return the types of all resources that are created with these parameters."""
    return {resource.kind for resource in read_resources(ROOT, parameters)}


def test_first_deployment_has_no_service() -> None:
    """A service without an image never becomes stable, and CloudFormation rolls back."""
    for workers in ({}, {"MinWorkers": "1"}):
        first = deployed(**workers)
        assert {"AWS::ECR::Repository", "AWS::AutoScaling::AutoScalingGroup"} <= first
        assert not {"AWS::ECS::Service", "AWS::ApplicationAutoScaling::ScalableTarget"} & first
    assert {"AWS::ECS::Service", "AWS::ECR::Repository"} <= deployed(ImageTag="v1")
    assert "AWS::ECR::Repository" not in deployed(Workers="off", ImageTag="v1")


def test_api_gateway_account_is_optional() -> None:
    account = "AWS::ApiGateway::Account"
    assert account not in deployed()
    assert account not in deployed(WebSocketAccessLogs="on")
    assert account in deployed(WebSocketAccessLogs="make-role")


def test_alarm_topic_requires_email() -> None:
    mail = {"AlarmEmail": "a@example.com", "ImageTag": "v1"}
    assert not {"AWS::SNS::Topic", "AWS::Budgets::Budget"} & deployed(ImageTag="v1")
    assert "AWS::SNS::Topic" in deployed(**mail)
    assert "AWS::Budgets::Budget" in deployed(**mail, MonthlyBudget="50")


def test_alarm_topic_can_be_given() -> None:
    given = deployed(AlarmTopicArn="arn:aws:sns:us-east-1:1:alarms", AlarmEmail="a@example.com")
    assert "AWS::SNS::Topic" not in given
    assert "AWS::CloudWatch::Alarm" in given


def test_budget_stop_is_optional() -> None:
    watched = {"AlarmEmail": "a@example.com", "ImageTag": "v1", "MonthlyBudget": "50"}
    assert "AWS::Lambda::Function" not in deployed(**watched)
    assert "AWS::Lambda::Function" in deployed(**watched, StopAtBudget="on")
    assert "AWS::Lambda::Function" not in deployed(**{**watched, "MonthlyBudget": "0"}, StopAtBudget="on")


def test_data_protection_is_optional() -> None:
    assert not {"AWS::KMS::Key", "AWS::CloudTrail::Trail"} & deployed()
    assert {"AWS::KMS::Key", "AWS::CloudTrail::Trail"} <= deployed(CustomerKey="on", DataEvents="on")


def test_background_is_created_last() -> None:
    """The sweep writes into the bucket, which a first deployment that fails has to delete."""
    background = resources("root")["Background"]
    stacks = resources("root", "AWS::Serverless::Application")
    earlier, unseen = set[str](), {*background["DependsOn"], "Background"}
    while unseen:
        name = unseen.pop()
        earlier.add(name)
        unseen |= set(re.findall(r"\['(\w+)', 'Outputs", str(stacks[name]))) - earlier
    # The others need an image, which a first deployment does not have.
    assert set(stacks) - earlier == {"Metrics", "Scaling", "WorkerAlarms", "BudgetStop"}
    assert set(resources("background")["SweepFunction"]["DependsOn"]) == set(
        resources("background", "AWS::Serverless::Function")
    ) - {"SweepFunction"}


def test_worker_log_survives_failed_service() -> None:
    assert resources("worker", "AWS::Logs::LogGroup") == {}
    assert "Log" in resources("fleet", "AWS::Logs::LogGroup")


# Names that are unique in an account, not in a region.
GLOBAL_NAMES = {
    "AWS::CloudWatch::Dashboard": "DashboardName",
    "AWS::CloudFront::Function": "Name",
    "AWS::Budgets::Budget": "BudgetName",
}


@pytest.mark.parametrize("kind", GLOBAL_NAMES)
def test_global_names_contain_region(kind: str) -> None:
    found = [str(one["Properties"]) for one in everywhere(kind).values()]
    assert found
    for own in found:
        assert re.search(rf"'{GLOBAL_NAMES[kind]}': {{'Fn::Sub': '[^']*\${{AWS::Region}}'", own)


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "root"])
def test_template_length(name: str) -> None:
    assert len(TEMPLATES[name].read_text().splitlines()) < 250
