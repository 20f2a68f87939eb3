"""The logs, metrics, alarms and the dashboard of the templates."""

import json
import re
import sys
from typing import Any

import pytest
import structlog

from pipeline.contract.records import Timings
from pipeline.settings import Settings
from pipeline.telemetry.logs import configure_logging
from tests.infra.cloudformation import (
    FUNCTIONS,
    ROOT,
    everywhere,
    properties,
    resources,
)


def test_log_retention() -> None:
    logs = everywhere("AWS::Logs::LogGroup")
    # Two access logs, those of the workers, of stopped tasks and of the function that stops at the budget.
    assert len(logs) == len(FUNCTIONS) + 5
    assert {str(log["Properties"]["RetentionInDays"]) for log in logs.values()} == {
        str({"Ref": "LogRetentionDays"})
    }


def test_access_logs_omit_query_and_headers() -> None:
    _, socket, _ = properties("websocket", "Api")["AccessLogSettings"]["Fn::If"]
    formats = [properties("http", "Stage")["AccessLogSettings"]["Format"], socket["Format"]]
    for format_ in formats:
        assert json.loads(format_.replace("$context", "context"))
        assert not re.search(r"querystring|\bheader|rawPath|authorizer", format_, re.IGNORECASE)


def test_alarms_have_description_and_action() -> None:
    alarms = resources("alarms", "AWS::CloudWatch::Alarm") | resources("worker-alarms", "AWS::CloudWatch::Alarm")
    for name, alarm in alarms.items():
        assert re.search(r"\bfirst\b", str(alarm["Properties"]["AlarmDescription"]), re.IGNORECASE), name
        assert alarm["Properties"]["AlarmActions"] == [{"Ref": "TopicArn"}], name
        assert alarm["Properties"]["OKActions"] == [{"Ref": "TopicArn"}], name
        assert alarm["Properties"]["TreatMissingData"] in {"breaching", "notBreaching"}, name
    errors = {name for name in alarms if name.endswith("Errors") and name != "ServerErrors"}
    assert errors == {name.split(".")[1].removesuffix("Function") + "Errors" for name in FUNCTIONS}


def test_dashboard_body_is_valid() -> None:
    body, given = properties("dashboard", "Dashboard")["DashboardBody"]["Fn::Sub"]
    for choice, widgets in ((1, 9), (2, 6)):
        text = body
        for name, one in given.items():
            extra = one["Fn::If"][choice]
            text = text.replace(f"${{{name}}}", extra["Fn::Sub"] if isinstance(extra, dict) else extra)
        assert len(json.loads(re.sub(r"\$\{[\w:]+\}", "x", text))["widgets"]) == widgets


def test_websocket_error_metric_filters() -> None:
    filters = resources("websocket", "AWS::Logs::MetricFilter").values()
    functions = {name.removesuffix("Function") for name in resources("websocket", "AWS::Serverless::Function")}
    assert {one["Properties"]["LogGroupName"]["Ref"] for one in filters} == {f"{name}Log" for name in functions}
    alarm = properties("alarms", "WebSocketFailures")
    for one in filters:
        assert one["Properties"]["FilterPattern"] == '{ $.level = "error" }'
        (transformation,) = one["Properties"]["MetricTransformations"]
        assert transformation["MetricName"] == alarm["MetricName"]


def test_metric_filters_match_logs(capsys: pytest.CaptureFixture[str]) -> None:
    """The code logs the fields that the metric filters use."""
    patterns = [one["Properties"]["FilterPattern"] for one in everywhere("AWS::Logs::MetricFilter").values()]
    fields = {field for pattern in patterns for field in re.findall(r"\$\.(\w+)", pattern)}
    assert fields - {"level", "event", "detail", "status", "code"} <= set(Timings.model_fields)
    events = {event for pattern in patterns for event in re.findall(r'\$\.event = "([^"]+)"', pattern)}
    code = "".join(path.read_text() for path in (ROOT / "gpu_runner").rglob("*.py"))
    assert events
    for event in events:
        assert f'"{event}"' in code
    configure_logging(Settings(log_format="json"), "worker")
    structlog.get_logger().error("job ended", queued_seconds=1.5)
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (line["level"], line["event"], line["queued_seconds"]) == ("error", "job ended", 1.5)


def test_stopped_tasks_are_logged_and_counted() -> None:
    rule = properties("fleet", "StoppedTasks")
    (target,) = rule["Targets"]
    assert target["Arn"]["Fn::Sub"].endswith(":log-group:${StoppedTasksLog}")
    allowed = json.loads(properties("fleet", "MayLog")["PolicyDocument"]["Fn::Sub"])["Statement"]
    assert {one["Action"] for one in allowed} == {"logs:CreateLogStream", "logs:PutLogEvents"}
    assert properties("fleet", "StoppedTasksLog")["LogGroupName"]["Fn::Sub"].startswith("/aws/events/")
    ended = properties("worker-alarms", "TasksEnded")["FilterPattern"]
    assert {"EssentialContainerExited", "TaskFailedToStart"} <= set(re.findall(r'"(\w+)"', ended))
    assert "ServiceSchedulerInitiated" not in ended  # scale-in
    alarm = properties("worker-alarms", "WorkersDie")
    assert (alarm["Threshold"], alarm["Period"]) == (3, 1800)  # of all workers, whatever MaxWorkers


def test_failed_share_counts_all_previews() -> None:
    values = {
        name: one["Properties"]["MetricTransformations"][0]["MetricValue"]
        for name, one in resources("metrics", "AWS::Logs::MetricFilter").items()
        if one["Properties"]["MetricTransformations"][0]["MetricName"] == "PreviewFailed"
    }
    assert values == {"FailedPreviews": "1", "SucceededPreviews": "0"}


class AwsCalls:
    """Records calls, as the clients of ECS and Auto Scaling."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def client(self, _service: str) -> "AwsCalls":
        return self

    def __getattr__(self, name: str) -> Any:
        def call(**request: Any) -> dict[str, Any]:
            self.calls.append((name, request))
            return {
                "AutoScalingGroups": [
                    {
                        "Instances": [
                            {"InstanceId": "i-1", "LifecycleState": "InService"},
                            {"InstanceId": "i-2", "LifecycleState": "Terminating"},
                        ]
                    }
                ],
                "taskArns": ["t"],
            }

        return call


def test_budget_stop_ends_instances_and_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = AwsCalls()
    monkeypatch.setitem(sys.modules, "boto3", aws)
    function = properties("budget-stop", "Function")
    for name in function["Environment"]["Variables"]:
        monkeypatch.setenv(name, name.lower())
    code: dict[str, Any] = {}
    exec(function["Code"]["ZipFile"], code)
    code["handler"]({}, None)
    assert [name for name, _ in aws.calls] == [
        "update_service",
        "update_auto_scaling_group",
        "describe_auto_scaling_groups",
        "set_instance_protection",
        "list_tasks",
        "stop_task",
    ]
    requests = dict(aws.calls)
    assert requests["update_auto_scaling_group"]["MaxSize"] == 0
    assert requests["set_instance_protection"]["InstanceIds"] == ["i-1"]
    assert len(function["Code"]["ZipFile"]) < 4096  # the limit of CloudFormation
