"""The logs, metrics, alarms and the dashboard of the templates."""

import json
import re

import pytest
import structlog

from pipeline.contract.records import Timings
from pipeline.logs import configure_logging
from pipeline.settings import Settings
from tests.infra.cloudformation import (
    FUNCTIONS,
    ROOT,
    everywhere,
    properties,
    resources,
)


def test_log_retention() -> None:
    logs = everywhere("AWS::Logs::LogGroup")
    assert len(logs) == len(FUNCTIONS) + 3  # two access logs, and the log of the worker
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
        assert alarm["Properties"]["AlarmActions"] in ([{"Ref": "Topic"}], [{"Ref": "TopicArn"}]), name
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
    assert fields - {"level", "event"} <= set(Timings.model_fields)
    events = {event for pattern in patterns for event in re.findall(r'\$\.event = "([^"]+)"', pattern)}
    code = "".join(path.read_text() for path in (ROOT / "gpu_runner").rglob("*.py"))
    assert events
    for event in events:
        assert f'"{event}"' in code
    configure_logging(Settings(log_format="json"), "worker")
    structlog.get_logger().error("job ended", queued_seconds=1.5)
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (line["level"], line["event"], line["queued_seconds"]) == ("error", "job ended", 1.5)
