"""Consistency of the templates with the code, which linters do not check."""

import importlib
import json
import re
import shutil
import subprocess
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from provisioning.buckets import UNFINISHED_UPLOAD_DAYS, expiry_rules
from provisioning.queues import LONGEST_RETENTION

from functions.aws.viewer_address import ADDRESS_HEADER
from infra.simulation.cloudformation import read_resources
from pipeline.contract import layout
from pipeline.contract.messages.webhooks import ATTEMPTS
from pipeline.contract.records import Timings
from pipeline.logs import configure_logging
from pipeline.settings import Settings
from tests.infra.templates import (
    ROOT,
    TEMPLATES,
    as_list,
    everywhere,
    nested,
    properties,
    resources,
    template,
    values,
)

DEFAULTS = Settings()
FUNCTIONS = everywhere("AWS::Serverless::Function")
MEBIBYTE = 1024 * 1024
# The maximum size of Lambda's requests and responses, as text.
LAMBDA_BYTES = 6 * MEBIBYTE


def function(name: str) -> dict[str, Any]:
    """Return the properties of a function, including the globals."""
    shared: dict[str, Any] = template(name.split(".")[0])["Globals"]["Function"]
    own: dict[str, Any] = FUNCTIONS[name]["Properties"]
    return shared | own


def environment(name: str) -> dict[str, Any]:
    """Return the variables of a function, including the globals."""
    places = template(name.split(".")[0])["Globals"]["Function"], FUNCTIONS[name]["Properties"]
    return {
        key: value for place in places for key, value in place.get("Environment", {}).get("Variables", {}).items()
    }


# Retention


def test_bucket_lifecycle_matches_code() -> None:
    wanted = {rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in expiry_rules(DEFAULTS)}
    rules = properties("storage", "Ephemeral")["LifecycleConfiguration"]["Rules"]
    given = {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule}
    assert given == wanted
    assert {rule["Status"] for rule in rules} == {"Enabled"}


def test_voices_bucket_expires_old_versions() -> None:
    rules = properties("storage", "Voices")["LifecycleConfiguration"]["Rules"]
    assert not any("ExpirationInDays" in rule for rule in rules)
    assert [rule["NoncurrentVersionExpiration"] for rule in rules if "NoncurrentVersionExpiration" in rule] == [
        {"NoncurrentDays": {"Ref": "RestoreDays"}}
    ]
    assert properties("storage", "Voices")["VersioningConfiguration"] == {"Status": "Enabled"}
    assert "VersioningConfiguration" not in properties("storage", "Ephemeral")


@pytest.mark.parametrize("bucket", ["Ephemeral", "Voices"])
def test_unfinished_uploads_expire(bucket: str) -> None:
    rules = properties("storage", bucket)["LifecycleConfiguration"]["Rules"]
    found = [rule["AbortIncompleteMultipartUpload"] for rule in rules if "AbortIncompleteMultipartUpload" in rule]
    assert found == [{"DaysAfterInitiation": UNFINISHED_UPLOAD_DAYS}]


def test_bucket_deletion_policies() -> None:
    # Otherwise a failed first deployment leaves a bucket outside any stack.
    assert resources("storage")["Voices"]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert resources("storage")["VoicesPolicy"]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert resources("storage")["Ephemeral"]["DeletionPolicy"] == "Delete"


def test_log_retention() -> None:
    logs = everywhere("AWS::Logs::LogGroup")
    assert len(logs) == len(FUNCTIONS) + 3  # two access logs, and the log of the worker
    assert {str(log["Properties"]["RetentionInDays"]) for log in logs.values()} == {
        str({"Ref": "LogRetentionDays"})
    }


# Privacy


@pytest.mark.parametrize("bucket", ["Ephemeral", "Voices"])
def test_bucket_is_private_and_encrypted(bucket: str) -> None:
    found = properties("storage", bucket)
    assert set(found["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(found["PublicAccessBlockConfiguration"]) == 4
    assert "AES256" in values(found["BucketEncryption"])
    assert values(found["OwnershipControls"]) == ["BucketOwnerEnforced"]
    (statement,) = properties("storage", f"{bucket}Policy")["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [{"Fn::GetAtt": [bucket, "Arn"]}, {"Fn::Sub": f"${{{bucket}.Arn}}/*"}]


@pytest.mark.parametrize("queue", resources("queues", "AWS::SQS::Queue"))
def test_queue_is_encrypted_and_requires_tls(queue: str) -> None:
    assert properties("queues", queue)["SqsManagedSseEnabled"] is True
    policy = properties("queues", f"{queue}Policy")
    assert policy["Queues"] == [{"Ref": queue}]
    first = policy["PolicyDocument"]["Statement"][0]
    assert (first["Effect"], first["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert first["Resource"] == {"Fn::GetAtt": [queue, "Arn"]}


def test_bucket_cors_rules() -> None:
    reading, writing = properties("storage", "Ephemeral")["CorsConfiguration"]["CorsRules"]
    # After a cross-origin redirect, browsers send `Origin: null`.  The signature controls the access.
    assert (reading["AllowedOrigins"], reading["AllowedMethods"]) == (["*"], ["GET", "HEAD"])
    condition, form, otherwise = writing["Fn::If"]
    assert condition == "HasOrigins"
    assert (form["AllowedOrigins"], form["AllowedMethods"]) == ({"Ref": "CorsOrigins"}, ["POST"])
    assert otherwise == {"Ref": "AWS::NoValue"}


def test_access_logs_omit_query_and_headers() -> None:
    _, socket, _ = properties("websocket", "Api")["AccessLogSettings"]["Fn::If"]
    formats = [properties("http", "Stage")["AccessLogSettings"]["Format"], socket["Format"]]
    for format_ in formats:
        assert json.loads(format_.replace("$context", "context"))
        assert not re.search(r"querystring|\bheader|rawPath|authorizer", format_, re.IGNORECASE)


def test_templates_contain_no_secrets() -> None:
    text = "".join(path.read_text() for path in TEMPLATES.values())
    assert not re.search(r"(AKIA|ASIA)[A-Z0-9]{16}|vck_|-----BEGIN|password|hooks\.slack", text, re.IGNORECASE)


# Queues


def test_queue_visibility_fits_function_timeout() -> None:
    sources = {
        ("background.NotifyFunction", "EventsArn"): "Events",
        ("background.WebhooksFunction", "WebhooksArn"): "Webhooks",
        ("background.DeadLettersFunction", "SynthesisDeadArn"): "SynthesisDead",
    }
    found = {
        (name, event["Properties"]["Queue"]["Ref"])
        for name, one in FUNCTIONS.items()
        for event in one["Properties"].get("Events", {}).values()
        if event["Type"] == "SQS"
    }
    assert found == set(sources)
    for (name, _), queue in sources.items():
        assert properties("queues", queue)["VisibilityTimeout"] >= 6 * function(name)["Timeout"]


def test_functions_report_batch_failures() -> None:
    for name in ("background.NotifyFunction", "background.WebhooksFunction", "background.DeadLettersFunction"):
        (event,) = function(name)["Events"].values()
        assert event["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert event["Properties"]["ScalingConfig"]["MaximumConcurrency"] >= 2  # the minimum of AWS


@pytest.mark.parametrize(
    ("queue", "dead", "receives"),
    [
        ("Synthesis", "SynthesisDead", DEFAULTS.max_receives),
        ("Events", "EventsDead", DEFAULTS.max_receives),
        ("Webhooks", "WebhooksDead", ATTEMPTS),
    ],
)
def test_queue_redrive_policy(queue: str, dead: str, receives: int) -> None:
    assert properties("queues", queue)["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": [dead, "Arn"]},
        "maxReceiveCount": receives,
    }


def test_queue_retention_matches_job_retention() -> None:
    for queue in ("Synthesis", "SynthesisDead"):
        kept = timedelta(seconds=properties("queues", queue)["MessageRetentionPeriod"])
        assert kept == DEFAULTS.job_retention, queue
    kept = timedelta(seconds=properties("queues", "EventsDead")["MessageRetentionPeriod"])
    assert kept == LONGEST_RETENTION  # it contains no texts


def test_synthesis_queue_visibility_timeout() -> None:
    queue = properties("queues", "Synthesis")
    assert queue["VisibilityTimeout"] == DEFAULTS.visibility_timeout_seconds


def test_outcome_notifications() -> None:
    (rule,) = properties("storage", "Ephemeral")["NotificationConfiguration"]["QueueConfigurations"]
    assert rule["Event"] == "s3:ObjectCreated:*"
    assert rule["Filter"]["S3Key"]["Rules"] == [
        {"Name": "prefix", "Value": layout.JOBS},
        {"Name": "suffix", "Value": layout.OUTCOME_FILE},
    ]
    allow = properties("queues", "EventsPolicy")["PolicyDocument"]["Statement"][1]
    assert allow["Principal"] == {"Service": "s3.amazonaws.com"}
    assert allow["Condition"] == {
        "ArnEquals": {"aws:SourceArn": {"Fn::Sub": "arn:${AWS::Partition}:s3:::${EphemeralBucketName}"}},
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
    }
    names = [properties("root", one)["Parameters"]["EphemeralBucketName"] for one in ("Queues", "Storage")]
    assert names[0] == names[1]


# Functions


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_handler_exists(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AUTH": "keys"}.items():
        monkeypatch.setenv(variable, value)
    path = ROOT.joinpath(*function(name)["Handler"].rpartition(".")[0].split(".")).with_suffix(".py")
    module, _, handler = function(name)["Handler"].rpartition(".")
    assert path.is_file()
    assert importlib.util.find_spec(module)
    assert re.search(rf"^{handler} = ", path.read_text(), re.MULTILINE)


def test_functions_have_own_role_and_log() -> None:
    written = {
        f"functions.aws.{file.stem}.{handler}"
        for file in (ROOT / "functions" / "aws").glob("*.py")
        for handler in re.findall(r"^(handler|connect|disconnect|default) = ", file.read_text(), re.MULTILINE)
    }
    assert sorted(function(name)["Handler"] for name in FUNCTIONS) == sorted(written)
    for name in FUNCTIONS:
        own = name.split(".")[1].removesuffix("Function")
        assert function(name)["Role"] == {"Fn::GetAtt": ["Roles", f"Outputs.{own}Arn"]}
        assert function(name)["FunctionName"] == {"Fn::Sub": f"${{Name}}-{own}"}  # alarms use this name
        assert function(name)["LoggingConfig"] == {"LogGroup": {"Ref": f"{own}Log"}}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_variables_are_valid_settings(name: str) -> None:
    given = environment(name)
    assert set(given) <= {field.upper() for field in Settings.model_fields}
    fixed = {key.lower(): value for key, value in given.items() if isinstance(value, str)}
    settings = Settings.model_validate(fixed)
    same = {key for key in fixed if getattr(settings, key) == Settings.model_fields[key].default}
    assert same <= {"preview_wait_seconds"}  # explicit, because the limit of API Gateway depends on it


# Settings whose defaults are only valid on a single machine.
QUEUES = ("SYNTHESIS", "EVENTS", "WEBHOOKS")
NAMES = {"BUCKET", "VOICES_BUCKET", "SYNTHESIS_QUEUE"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_sets_required_settings(name: str) -> None:
    assert NAMES | {"AUTH", "LOG_FORMAT"} <= set(environment(name))
    # Functions receive these queues' messages in events, and never send to them.
    unnamed = {"EVENTS_QUEUE", "WEBHOOKS_QUEUE", *(f"{name}_DEAD_LETTER_QUEUE" for name in QUEUES)}
    named = {field.upper() for field, info in Settings.model_fields.items() if "voice-cloning" in str(info.default)}
    assert named <= NAMES | unnamed


def test_cors_origins_set_for_both_apis() -> None:
    with_origins = {name for name in FUNCTIONS if "CORS_ORIGINS" in environment(name)}
    assert with_origins == {"http.HttpFunction", *(name for name in FUNCTIONS if name.startswith("websocket."))}


def test_body_limits_fit_lambda() -> None:
    for name in ("REQUEST_MAX_MEGABYTES", "ANSWER_MAX_MEGABYTES"):
        in_base64 = float(environment("http.HttpFunction")[name]) * MEBIBYTE * 4 / 3
        assert in_base64 + 0.25 * MEBIBYTE <= LAMBDA_BYTES  # headers and the envelope
        assert in_base64 > LAMBDA_BYTES / 2


def test_timeouts_are_nested() -> None:
    wait = float(environment("http.HttpFunction")["PREVIEW_WAIT_SECONDS"])
    timeout = function("http.HttpFunction")["Timeout"]
    assert wait + 3 <= timeout < properties("http", "Integration")["TimeoutInMillis"] / 1000 <= 30
    for name in FUNCTIONS:
        if name.startswith("websocket."):
            assert function(name)["Timeout"] <= 29  # the timeout of WebSocket APIs


def test_sweep_schedule() -> None:
    sweep = function("background.SweepFunction")
    (event,) = sweep["Events"].values()
    assert (event["Type"], event["Properties"]["Schedule"]) == ("Schedule", "rate(1 minute)")
    assert sweep["Timeout"] < 60
    assert sweep["EventInvokeConfig"]["MaximumRetryAttempts"] == 0


def test_functions_runtime_matches_package() -> None:
    assert {function(name)["Runtime"] for name in FUNCTIONS} == {"python3.13"}
    assert {str(function(name)["Architectures"]) for name in FUNCTIONS} == {"['x86_64']"}
    package = (ROOT / "infra" / "package" / "Makefile").read_text()
    assert re.search(r"^PYTHON \?= python3\.13$", package, re.MULTILINE)


# Roles


def test_wildcard_resources_have_comment() -> None:
    for name, path in TEMPLATES.items():
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.search(r"Resource: (\"\*\"|.*[^a-z]\*$)", line) and not re.search(r"s3:::", line):
                assert lines[number - 1].strip().startswith("#"), f"{name}: {line}"


def test_wildcard_actions_only_denied() -> None:
    for name in TEMPLATES:
        for id_, one in resources(name).items():
            for statement in _statements(one):
                wild = [action for action in as_list(statement["Action"]) if "*" in action]
                assert not wild or statement["Effect"] == "Deny", f"{name}.{id_}: {wild}"


def _statements(resource: dict[str, Any]) -> list[dict[str, Any]]:
    own = resource.get("Properties", {})
    documents = [policy["PolicyDocument"] for policy in own.get("Policies", [])] + [own.get("PolicyDocument")]
    return [statement for document in documents if document for statement in document["Statement"]]


def test_policy_prefixes_match_layout() -> None:
    prefixes = {value for name, value in vars(layout).items() if name.isupper() and str(value).endswith("/")}
    found = set()
    for path in TEMPLATES.values():
        found |= set(re.findall(r":s3:::\$\{\w+Bucket\}/([a-z/-]+/)", path.read_text()))
    assert found == prefixes


# The worker


def worker() -> dict[str, Any]:
    (container,) = properties("worker", "Task")["ContainerDefinitions"]
    assert isinstance(container, dict)
    return container


def test_worker_variables_are_settings() -> None:
    given = {one["Name"] for one in worker()["Environment"]}
    assert given <= {field.upper() for field in Settings.model_fields}
    assert given >= {"BUCKET", "VOICES_BUCKET", "SYNTHESIS_QUEUE", "AWS_REGION"}


def test_worker_stop_timeout() -> None:
    assert DEFAULTS.worker_drain_seconds + 10 <= worker()["StopTimeout"] <= 120
    data = properties("fleet", "Template")["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Fn::Sub"]
    assert "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true" in data
    assert f"ECS_CONTAINER_STOP_TIMEOUT={worker()['StopTimeout']}s" in data


def test_worker_health_check_matches_image() -> None:
    image = (ROOT / "Dockerfile.gpu").read_text()
    of_the_worker = image.split(" AS worker\n")[1]
    (command,) = re.findall(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])$", of_the_worker, re.MULTILINE)
    assert worker()["HealthCheck"]["Command"] == ["CMD", *json.loads(command)]
    assert worker()["User"] == re.findall(r"^USER (\S+)$", image, re.MULTILINE)[-1]


def test_worker_gpu_and_placement() -> None:
    assert worker()["ResourceRequirements"] == [{"Type": "GPU", "Value": "1"}]
    assert worker()["LinuxParameters"]["InitProcessEnabled"] is True
    assert properties("worker", "Service")["PlacementConstraints"] == [{"Type": "distinctInstance"}]


def test_instances_protected_from_scale_in() -> None:
    provider = properties("fleet", "Capacity")["AutoScalingGroupProvider"]
    assert provider["ManagedTerminationProtection"] == "ENABLED"
    assert provider["ManagedScaling"]["Status"] == "ENABLED"
    assert provider["ManagedDraining"] == "ENABLED"
    # Managed termination protection requires it.
    assert properties("fleet", "Instances")["NewInstancesProtectedFromScaleIn"] is True
    assert properties("fleet", "Instances")["MinSize"] == "0"


def test_instance_metadata_hop_limit() -> None:
    options = properties("fleet", "Template")["LaunchTemplateData"]["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)
    assert "SecurityGroupIngress" not in properties("fleet", "Closed")


def test_scaling_from_and_to_zero() -> None:
    wake, sleep = properties("scaling", "Wake"), properties("scaling", "Sleep")
    assert (wake["Threshold"], wake["EvaluationPeriods"]) == (0, 1)
    assert wake["AlarmActions"] == [{"Ref": "WakePolicy"}]
    assert (sleep["Threshold"], sleep["EvaluationPeriods"]) == (0, {"Ref": "IdleMinutes"})
    assert sleep["AlarmActions"] == [{"Ref": "SleepPolicy"}]
    policy = properties("scaling", "SleepPolicy")["StepScalingPolicyConfiguration"]
    assert policy["StepAdjustments"][0]["ScalingAdjustment"] == {"Ref": "MinWorkers"}
    assert template("root")["Parameters"]["MinWorkers"]["Default"] == 0


# The whole stack


def test_parameter_defaults_match_code() -> None:
    parameters = template("root")["Parameters"]
    # GPU workers have a larger batch than the default.
    assert parameters["WorkerBatchSize"]["Default"] >= DEFAULTS.worker_batch_size
    assert parameters["BacklogPerWorker"]["Default"] <= parameters["WorkerBatchSize"]["Default"]
    assert parameters["LogLevel"]["Default"] == DEFAULTS.log_level


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


# Deployment


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


def test_service_has_no_desired_count() -> None:
    """ECS accepts zone rebalancing, its default for new services, only with a MaximumPercent above 100.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-rebalancing.html
    """
    service = properties("worker", "Service")
    assert "DesiredCount" not in service
    assert service["AvailabilityZoneRebalancing"] == "DISABLED"
    assert service["DeploymentConfiguration"]["MaximumPercent"] == 100
    assert service["DeploymentConfiguration"]["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert resources("root")["Worker"]["Properties"]["TimeoutInMinutes"] <= 60


def test_worker_reserves_cpu_and_uses_cuda() -> None:
    """ECS measures a service's CPUUtilization by the CPU units that its task definition reserves.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service_utilization.html
    """
    vcpus_of_the_smallest = 4
    assert 0 < worker()["Cpu"] < 1024 * vcpus_of_the_smallest
    assert {"Name": "DEVICE", "Value": "cuda"} in worker()["Environment"]


def test_fleet_zones_and_instance_types() -> None:
    assert len(resources("network", "AWS::EC2::Subnet")) == 3
    group = properties("fleet", "Instances")
    overrides = group["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"]
    assert len(overrides) == 4
    metrics = group["MetricsCollection"][0]["Metrics"]
    watched = properties("worker-alarms", "IdleInstances")["Metrics"]
    used = {one["MetricStat"]["Metric"]["MetricName"] for one in watched if one["Id"] == "instances"}
    assert used <= set(metrics)


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


def test_cloudfront_paths_and_rate_limit() -> None:
    distribution = properties("edge", "Distribution")["DistributionConfig"]
    (socket,) = distribution["CacheBehaviors"]
    assert socket["PathPattern"] == f"/{properties('websocket', 'Api')['StageName']}"
    assert distribution["DefaultCacheBehavior"]["TargetOriginId"] == "http"
    # CloudFront has to wait at least as long as the function.
    (http,) = (one for one in distribution["Origins"] if one["Id"] == "http")
    assert http["CustomOriginConfig"]["OriginReadTimeout"] > function("http.HttpFunction")["Timeout"]
    (rule,) = properties("edge", "Acl")["Rules"]
    assert rule["Statement"]["RateBasedStatement"]["Limit"] == {"Ref": "RequestsPerAddress"}
    # Pages of the domain are an allowed origin.
    for stack in ("Http", "WebSocket", "Storage"):
        assert "https://${DomainName}" in str(properties("root", stack)["Parameters"]["CorsOrigins"])


def test_cloudfront_origin_secret_and_address() -> None:
    distribution = properties("edge", "Distribution")["DistributionConfig"]
    secret = {"Fn::Sub": "{{resolve:secretsmanager:${OriginSecretArn}:SecretString}}"}
    for origin in distribution["Origins"]:
        assert origin["OriginCustomHeaders"] == [{"HeaderName": "X-Origin-Secret", "HeaderValue": secret}]
    for behavior in [distribution["DefaultCacheBehavior"], *distribution["CacheBehaviors"]]:
        (association,) = behavior["FunctionAssociations"]
        assert association["FunctionARN"] == {"Fn::GetAtt": ["ViewerAddress", "FunctionARN"]}
    expected = {"Fn::If": ["HasOriginSecret", secret, {"Ref": "AWS::NoValue"}]}
    for name in ("http.HttpFunction", "websocket.ConnectFunction"):
        assert environment(name)["ORIGIN_SECRET"] == expected
    for stack in ("Http", "WebSocket"):
        arn = properties("root", stack)["Parameters"]["OriginSecretArn"]
        assert arn == {"Fn::If": ["HasDomain", {"Ref": "OriginSecret"}, ""]}


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_cloudfront_replaces_forged_address() -> None:
    code = properties("edge", "ViewerAddress")["FunctionCode"]
    event = {
        "viewer": {"ip": "198.51.100.1"},
        "request": {"uri": "/", "headers": {ADDRESS_HEADER: {"value": "forged"}, "accept": {"value": "*/*"}}},
    }
    script = f"{code}; console.log(JSON.stringify(handler({json.dumps(event)})))"
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    headers = json.loads(done.stdout)["headers"]
    assert headers == {ADDRESS_HEADER: {"value": "198.51.100.1"}, "accept": {"value": "*/*"}}


def test_functions_deploy_with_alias() -> None:
    for name in ("http", "websocket"):
        shared = template(name)["Globals"]["Function"]
        assert shared["AutoPublishAlias"] == "live"
        assert shared["DeploymentPreference"]["Alarms"] == {"Fn::If": ["IsGradual", [{"Ref": "Failing"}], []]}
        # Otherwise a change of settings alone creates no new version.
        for id_ in resources(name, "AWS::Serverless::Function"):
            assert properties(name, id_)["AutoPublishAliasAllProperties"] is True
    routes = properties("websocket", "Api")["Routes"].values()
    assert all(route["FunctionArn"]["Ref"].endswith(".Alias") for route in routes)
    assert properties("http", "Integration")["IntegrationUri"] == {"Ref": "HttpFunction.Alias"}


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "root"])
def test_template_length(name: str) -> None:
    assert len(TEMPLATES[name].read_text().splitlines()) < 250
