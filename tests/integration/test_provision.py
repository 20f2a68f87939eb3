"""Provisioning of buckets and queues over HTTP."""

import json
import re
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from provisioning import buckets
from provisioning.provision import provision
from structlog.testing import capture_logs

from pipeline.contract import layout
from pipeline.contract.messages.events import keys_created
from pipeline.errors import Unavailable
from pipeline.settings import Settings
from tests.support.http_server import override
from tests.support.moto_server import ACCOUNT

JOB = "01890f5cae6c7c7e8a1e5b8b1c0d2e3f"


@pytest.fixture
def s3(aws: str) -> Any:
    """An S3 client with administrator permissions."""
    return boto3.client("s3", endpoint_url=aws, region_name="us-east-1")


@pytest.fixture
def sqs(aws: str) -> Any:
    """An SQS client with administrator permissions."""
    return boto3.client("sqs", endpoint_url=aws, region_name="us-east-1")


def _attributes(sqs: Any, name: str) -> dict[str, str]:
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    found: dict[str, str] = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return found


def _provisioned_state(settings: Settings, s3: Any, sqs: Any) -> Any:
    """Read everything that provisioning sets."""
    buckets = [
        (
            s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"],
            s3.get_bucket_notification_configuration(Bucket=bucket).get("QueueConfigurations"),
        )
        for bucket in (settings.bucket, settings.bucket_for_voices)
    ]
    return buckets, [_attributes(sqs, name) for name in _queues(settings)]


def _queues(settings: Settings) -> list[str]:
    return [
        settings.synthesis_queue,
        settings.synthesis_dead_letter_queue,
        settings.events_queue,
        settings.events_dead_letter_queue,
        settings.webhooks_queue,
        settings.webhooks_dead_letter_queue,
    ]


async def test_bucket_lifecycle_rules(settings: Settings, s3: Any) -> None:
    await provision(settings)
    rules = s3.get_bucket_lifecycle_configuration(Bucket=settings.bucket)["Rules"]
    assert {r["Filter"]["Prefix"]: r["Expiration"]["Days"] for r in rules if "Expiration" in r} == {
        "audio/uploads/": 1,
        "audio/previews/": 1,
        "jobs/": 1,
        "connections/": 1,
        "changes/": 7,
        "tickets/": 1,
        "idempotency/": 1,
        "shares/": 1,
        "in-flight/": 1,
        "webhook-attempts/": 1,
        "derived/": 1,
        "fingerprints/": 1,
        "listed-consents/": 1,
    }
    kept, audit = s3.get_bucket_lifecycle_configuration(Bucket=settings.bucket_for_voices)["Rules"]
    assert (audit["Filter"], audit["Expiration"]) == ({"Prefix": "audit/"}, {"Days": 1095})
    assert "Expiration" not in kept
    assert kept["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


async def test_queue_attributes(settings: Settings, sqs: Any) -> None:
    await provision(settings)
    synthesis, synthesis_dead, events, events_dead, webhooks, webhooks_dead = _queues(settings)
    for name, dead, receives in (
        (synthesis, synthesis_dead, 5),
        (events, events_dead, 5),
        (webhooks, webhooks_dead, 12),
    ):
        attributes = _attributes(sqs, name)
        assert attributes["VisibilityTimeout"] == "60"
        redrive = json.loads(attributes["RedrivePolicy"])
        assert redrive["deadLetterTargetArn"] == f"arn:aws:sqs:us-east-1:{ACCOUNT}:{dead}"
        assert int(redrive["maxReceiveCount"]) == receives
    (statement,) = json.loads(_attributes(sqs, settings.events_queue)["Policy"])["Statement"]
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    assert statement["Condition"] == {
        "ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{settings.bucket}"},
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
    }


async def test_queue_retention_follows_job_retention(settings: Settings, sqs: Any) -> None:
    await provision(Settings(**(settings.model_dump() | {"job_retention_hours": 5.0})))
    for name in (settings.synthesis_queue, settings.synthesis_dead_letter_queue):
        assert _attributes(sqs, name)["MessageRetentionPeriod"] == str(5 * 3600)


async def test_only_outcomes_reach_events_queue(settings: Settings, s3: Any, sqs: Any) -> None:
    assert (await provision(settings)).notifies
    url = sqs.get_queue_url(QueueName=settings.events_queue)["QueueUrl"]
    for key in (layout.request(JOB), layout.preview(JOB), layout.outcome(JOB), layout.subscriber(JOB, "c")):
        s3.put_object(Bucket=settings.bucket, Key=key, Body=b"{}")
    bodies = [m["Body"] for m in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]]
    assert [key for body in bodies for key in keys_created(body)] == [layout.outcome(JOB)]


async def test_provision_twice_changes_nothing(settings: Settings, s3: Any, sqs: Any) -> None:
    await provision(settings)
    s3.put_object(Bucket=settings.bucket_for_voices, Key="audio/voices/nova/metadata.json", Body=b"{}")
    before = _provisioned_state(settings, s3, sqs)
    await provision(settings)
    assert _provisioned_state(settings, s3, sqs) == before
    assert s3.list_objects_v2(Bucket=settings.bucket_for_voices)["KeyCount"] == 1


async def test_provision_applies_changed_settings(settings: Settings, s3: Any, sqs: Any) -> None:
    await provision(settings)
    changes: dict[str, Any] = {"upload_retention_hours": 49.0, "visibility_timeout_seconds": 90}
    await provision(Settings(**(settings.model_dump() | changes)))
    rules = s3.get_bucket_lifecycle_configuration(Bucket=settings.bucket)["Rules"]
    assert [r["Expiration"]["Days"] for r in rules if r["Filter"]["Prefix"] == "audio/uploads/"] == [3]
    assert _attributes(sqs, settings.synthesis_queue)["VisibilityTimeout"] == "90"


async def test_foreign_lifecycle_rules_kept(settings: Settings, s3: Any) -> None:
    foreign = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 90}}
    s3.create_bucket(Bucket=settings.bucket)
    s3.put_bucket_lifecycle_configuration(Bucket=settings.bucket, LifecycleConfiguration={"Rules": [foreign]})
    for _ in range(2):
        await provision(settings)
    rules = s3.get_bucket_lifecycle_configuration(Bucket=settings.bucket)["Rules"]
    assert [rule for rule in rules if rule["ID"] == "theirs"] == [foreign]
    assert len(rules) == 1 + len(buckets.expiry_rules(settings)) + 1


def cors_rules(s3: Any, settings: Settings) -> list[Any]:
    try:
        rules: list[Any] = s3.get_bucket_cors(Bucket=settings.bucket)["CORSRules"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchCORSConfiguration":
            raise
        return []
    return rules


async def test_cors_rules_follow_origins(settings: Settings, s3: Any) -> None:
    await provision(settings)
    (reading,) = cors_rules(s3, settings)
    assert (reading["AllowedOrigins"], reading["AllowedMethods"]) == (["*"], ["GET", "HEAD"])
    for origins in ("https://a.example", "https://a.example,https://b.example"):
        await provision(override(settings, cors_origins=origins))
        _, sending = cors_rules(s3, settings)
        assert (sending["AllowedOrigins"], sending["AllowedMethods"]) == (origins.split(","), ["POST"])
    await provision(settings)
    assert cors_rules(s3, settings) == [reading]


async def test_foreign_cors_rules_kept(settings: Settings, s3: Any) -> None:
    foreign = {"ID": "theirs", "AllowedOrigins": ["https://foreign.example"], "AllowedMethods": ["GET"]}
    s3.create_bucket(Bucket=settings.bucket)
    s3.put_bucket_cors(Bucket=settings.bucket, CORSConfiguration={"CORSRules": [foreign]})
    await provision(override(settings, cors_origins="https://a.example"))
    assert [rule["ID"] for rule in cors_rules(s3, settings)] == [
        "theirs",
        buckets.READING_CORS_ID,
        buckets.FORMS_CORS_ID,
    ]
    await provision(settings)
    assert [rule["ID"] for rule in cors_rules(s3, settings)] == ["theirs", buckets.READING_CORS_ID]


async def test_foreign_notifications_and_policies_kept(settings: Settings, s3: Any, sqs: Any) -> None:
    s3.create_bucket(Bucket=settings.bucket)
    sqs.create_queue(QueueName="theirs")
    foreign = {"Id": "theirs", "QueueArn": _attributes(sqs, "theirs")["QueueArn"], "Events": ["s3:ObjectRemoved:*"]}
    s3.put_bucket_notification_configuration(
        Bucket=settings.bucket, NotificationConfiguration={"QueueConfigurations": [foreign]}
    )
    events = sqs.create_queue(QueueName=settings.events_queue)["QueueUrl"]
    statement = {"Sid": "theirs", "Effect": "Deny", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=events, Attributes={"Policy": policy})
    for _ in range(2):
        await provision(settings)
    found = s3.get_bucket_notification_configuration(Bucket=settings.bucket)["QueueConfigurations"]
    assert {one["Id"] for one in found} == {"theirs", "voice-cloning-outcomes"}
    statements = json.loads(_attributes(sqs, settings.events_queue)["Policy"])["Statement"]
    assert [one["Sid"] for one in statements] == ["theirs", "voice-cloning-events"]


async def test_queue_given_by_url(settings: Settings, sqs: Any) -> None:
    name = settings.synthesis_queue + "-by-url"
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    await provision(settings.model_copy(update={"synthesis_queue": url}))
    assert "RedrivePolicy" in _attributes(sqs, name)
    assert settings.synthesis_queue not in [found.rsplit("/", 1)[1] for found in sqs.list_queues()["QueueUrls"]]


async def test_missing_notifications_log_warning(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise ClientError({"Error": {"Code": "NotImplemented", "Message": "no"}}, "PutBucketNotification")

    monkeypatch.setattr(buckets, "_put_notification", refuse)
    with capture_logs() as logs:
        assert not (await provision(settings)).notifies
    (warning,) = [line for line in logs if line["log_level"] == "warning"]
    assert "event notifications" in warning["event"]
    assert warning["code"] == "NotImplemented"


async def test_unreachable_endpoint_is_named(settings: Settings) -> None:
    unreachable = settings.model_copy(update={"aws_endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(Unavailable, match=re.escape("http://127.0.0.1:9")):
        await provision(unreachable)


def test_expiry_rules_round_up_to_days() -> None:
    settings = Settings(upload_retention_hours=24, job_retention_hours=24.1, preview_retention_minutes=1)
    days = {rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in buckets.expiry_rules(settings)}
    assert days["audio/uploads/"] == 1
    assert days["jobs/"] == 2
    assert days["audio/previews/"] == 1
