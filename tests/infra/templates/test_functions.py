"""The Lambda functions of the templates: handlers, variables, timeouts and aliases."""

import importlib
import re

import pytest

from pipeline.settings import Settings
from tests.infra.cloudformation import (
    FUNCTIONS,
    ROOT,
    environment,
    function,
    properties,
    resources,
    template,
)

MEBIBYTE = 1024 * 1024

# The maximum size of Lambda's requests and responses, as text.
LAMBDA_BYTES = 6 * MEBIBYTE


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
        assert function(name)["Role"]["Fn::GetAtt"][1] == f"Outputs.{own}Arn"
        assert function(name)["FunctionName"] == {"Fn::Sub": f"${{Name}}-{own}"}  # alarms use this name
        assert function(name)["LoggingConfig"] == {"LogGroup": {"Ref": f"{own}Log"}}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_variables_are_valid_settings(name: str) -> None:
    given = environment(name)
    assert set(given) <= {field.upper() for field in Settings.model_fields}
    fixed = {key.lower(): value for key, value in given.items() if isinstance(value, str)}
    settings = Settings.model_validate(fixed)
    assert [key for key in fixed if getattr(settings, key) == Settings.model_fields[key].default] == []


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
    assert environment("http.HttpFunction")["PREVIEW_WAIT_SECONDS"] == {"Ref": "PreviewWaitSeconds"}
    wait = template("root")["Parameters"]["PreviewWaitSeconds"]["MaxValue"]
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
