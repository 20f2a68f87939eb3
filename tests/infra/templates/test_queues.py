"""The queues of the templates: encryption, timeouts, retention and dead letters."""

from datetime import timedelta

import pytest
from provisioning.queues import LONGEST_RETENTION

from pipeline.contract.messages.webhooks import ATTEMPTS
from pipeline.settings import Settings
from tests.infra.cloudformation import (
    FUNCTIONS,
    function,
    properties,
    resources,
)

DEFAULTS = Settings()


@pytest.mark.parametrize("queue", resources("queues", "AWS::SQS::Queue"))
def test_queue_is_encrypted_and_requires_tls(queue: str) -> None:
    assert properties("queues", queue)["SqsManagedSseEnabled"] is True
    policy = properties("queues", f"{queue}Policy")
    assert policy["Queues"] == [{"Ref": queue}]
    first = policy["PolicyDocument"]["Statement"][0]
    assert (first["Effect"], first["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert first["Resource"] == {"Fn::GetAtt": [queue, "Arn"]}


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
