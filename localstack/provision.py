"""Makes the buckets and queues that the settings name, with their rules; running it again changes nothing.

The same code serves ministack, LocalStack, moto, MinIO beside a queue, and AWS.  What others configured on the
buckets and queues stays: our rules are known by their ids.  Run by itself, it provisions whatever the environment
points at: `python localstack/provision.py`.
"""

import asyncio
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import place  # noqa: F401  (makes the packages importable)
import structlog
from botocore.exceptions import BotoCoreError, ClientError

from pipeline.access.quotas import SHARE_RETENTION
from pipeline.clients.resources import client_config, session_for
from pipeline.contract import layout, retention
from pipeline.errors import Unavailable
from pipeline.logs import configure_logging
from pipeline.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sqs import SQSClient

log = structlog.get_logger()

Rule = dict[str, Any]

OURS = "voice-cloning-"
CORS_ID = OURS + "presigned"
DEAD_LETTER_RETENTION = timedelta(days=14)  # the most that SQS allows
CHANGE_RETENTION = timedelta(days=7)  # the sweeper takes these within minutes; one left behind is worth a look
UNFINISHED_UPLOAD_DAYS = 1
NOTIFICATION_ATTEMPTS = 5  # AWS takes a few seconds to know a new queue policy


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What came of it."""

    notifies: bool  # whether the storage tells the events queue of new outcomes


@dataclass(frozen=True, slots=True)
class FoundQueue:
    """A queue and its attributes, as SQS names them."""

    url: str
    attributes: Mapping[str, str]

    @property
    def arn(self) -> str:
        """What other resources know it by."""
        return self.attributes["QueueArn"]


async def provision(settings: Settings) -> Provisioned:
    """Make what is not there and set what is not right.

    Raises
    ------
    Unavailable
        The storage or the queues don't answer, or refuse what can't be done without.
    """
    session = session_for(settings)
    with _translated(settings):
        async with AsyncExitStack() as stack:
            s3: S3Client = await stack.enter_async_context(
                session.client("s3", endpoint_url=settings.endpoint_for("s3"), config=client_config())
            )
            sqs: SQSClient = await stack.enter_async_context(
                session.client("sqs", endpoint_url=settings.endpoint_for("sqs"), config=client_config())
            )
            events_arn = await _provision_queues(sqs, settings)
            await _provision_buckets(s3, settings)
            return Provisioned(notifies=await _provision_notification(s3, settings.bucket, events_arn))


async def _provision_queues(sqs: "SQSClient", settings: Settings) -> str:
    """Make the queues; the ARN of the one for events."""
    synthesis_dead = await _find_or_make(sqs, settings.synthesis_dead_letter_queue)
    events_dead = await _find_or_make(sqs, settings.events_dead_letter_queue)
    synthesis = await _find_or_make(sqs, settings.synthesis_queue)
    events = await _find_or_make(sqs, settings.events_queue)
    kept_seconds = str(int(DEAD_LETTER_RETENTION.total_seconds()))
    for queue, dead in ((synthesis, synthesis_dead), (events, events_dead)):
        await _set_attribute(sqs, dead, "MessageRetentionPeriod", kept_seconds)
        await _set_attribute(sqs, queue, "VisibilityTimeout", str(settings.visibility_timeout_seconds))
        redrive = {"deadLetterTargetArn": dead.arn, "maxReceiveCount": settings.max_receives}
        await _set_attribute(sqs, queue, "RedrivePolicy", json.dumps(redrive))
    await _set_attribute(sqs, events, "Policy", _policy(events, settings.bucket))
    return events.arn


async def _find_or_make(sqs: "SQSClient", name_or_url: str) -> FoundQueue:
    """Find a queue, or make it when it goes by name."""
    url = name_or_url
    if not url.startswith(("http://", "https://")):
        try:
            url = (await sqs.get_queue_url(QueueName=name_or_url))["QueueUrl"]
        except sqs.exceptions.QueueDoesNotExist:
            url = (await sqs.create_queue(QueueName=name_or_url))["QueueUrl"]
            log.info("made a queue", queue=name_or_url)
    answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    return FoundQueue(url, {str(name): value for name, value in answer.get("Attributes", {}).items()})


async def _set_attribute(sqs: "SQSClient", queue: FoundQueue, name: str, value: str) -> None:
    if not _same(queue.attributes.get(name, ""), value):
        with _optional("queue attribute " + name, "the queue goes on without it"):
            await sqs.set_queue_attributes(QueueUrl=queue.url, Attributes={name: value})  # type: ignore[dict-item]


def _same(one: str, other: str) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return one == other


def _policy(queue: FoundQueue, bucket: str) -> str:
    """Give the queue's policy with our statement in it: this bucket of this account may send events."""
    arn = queue.arn
    partition, account = arn.split(":")[1], arn.split(":")[4]
    ours = {
        "Sid": OURS + "events",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {
            "ArnLike": {"aws:SourceArn": f"arn:{partition}:s3:::{bucket}"},
            "StringEquals": {"aws:SourceAccount": account},
        },
    }
    policy = json.loads(queue.attributes.get("Policy") or '{"Version": "2012-10-17"}')
    others = [statement for statement in policy.get("Statement", []) if statement.get("Sid") != ours["Sid"]]
    return json.dumps(policy | {"Statement": [*others, ours]})


async def _provision_buckets(s3: "S3Client", settings: Settings) -> None:
    for name in dict.fromkeys((settings.bucket, settings.bucket_for_voices)):
        await _make_bucket(s3, name, settings.aws_region)
    await _set_lifecycle(s3, settings.bucket, [*expiry_rules(settings), unfinished_upload_rule()])
    if settings.bucket_for_voices != settings.bucket:
        await _set_lifecycle(s3, settings.bucket_for_voices, [unfinished_upload_rule()])
    await _set_cors(s3, settings.bucket, settings.allowed_origins)


async def _make_bucket(s3: "S3Client", name: str, region: str) -> None:
    try:
        await s3.head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
    else:
        return
    if region == "us-east-1":
        await s3.create_bucket(Bucket=name)
    else:
        where: Any = {"LocationConstraint": region}
        await s3.create_bucket(Bucket=name, CreateBucketConfiguration=where)
    log.info("made a bucket", bucket=name)


def expiry_rules(settings: Settings) -> list[Rule]:
    """Give the lifecycle rules that stand behind the sweeper, in whole days and never too early."""
    retentions = {
        layout.UPLOADS: settings.upload_retention,
        layout.PREVIEWS: settings.preview_retention,
        layout.JOBS: settings.job_retention,
        layout.CONNECTIONS: settings.connection_retention,
        layout.CHANGES: CHANGE_RETENTION,
        layout.TICKETS: retention.TICKET_LIFETIME,
        layout.QUOTAS: SHARE_RETENTION,
        layout.IN_FLIGHT: settings.job_deadline,
    }
    return [
        {
            "ID": OURS + "expire-" + prefix.strip("/").replace("/", "-"),
            "Status": "Enabled",
            "Filter": {"Prefix": prefix},
            "Expiration": {"Days": math.ceil(lifetime / timedelta(days=1))},
        }
        for prefix, lifetime in retentions.items()
    ]


def unfinished_upload_rule() -> Rule:
    """Give the lifecycle rule that clears multipart uploads which nobody finished."""
    return {
        "ID": OURS + "abort-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UNFINISHED_UPLOAD_DAYS},
    }


async def _set_lifecycle(s3: "S3Client", bucket: str, ours: Sequence[Rule]) -> None:
    with _optional("lifecycle rules", "the sweeper alone deletes what has expired"):
        try:
            found = (await s3.get_bucket_lifecycle_configuration(Bucket=bucket)).get("Rules", [])
        except ClientError as error:
            _raise_unless(error, "NoSuchLifecycleConfiguration")
            found = []
        rules: Any = merged(found, ours, key="ID")
        if rules != found:
            await s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})


async def _set_cors(s3: "S3Client", bucket: str, origins: Sequence[str]) -> None:
    """Let pages of these origins, and of no other, use what they were given a presigned form or URL for."""
    with _optional("CORS rules", "browsers can't use presigned uploads"):
        try:
            found = (await s3.get_bucket_cors(Bucket=bucket)).get("CORSRules", [])
        except ClientError as error:
            _raise_unless(error, "NoSuchCORSConfiguration")
            found = []
        ours = [cors_rule(origins)] if origins else []
        rules: Any = merged([rule for rule in found if origins or rule.get("ID") != CORS_ID], ours, key="ID")
        if rules and rules != found:
            await s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
        elif found and not rules:
            await s3.delete_bucket_cors(Bucket=bucket)


def cors_rule(origins: Sequence[str]) -> Rule:
    """Give the rule by which pages of these origins may use presigned forms and URLs."""
    return {
        "ID": CORS_ID,
        "AllowedOrigins": list(origins),
        "AllowedMethods": ["GET", "HEAD", "POST"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 3600,
    }


async def _provision_notification(s3: "S3Client", bucket: str, queue_arn: str) -> bool:
    ours: Rule = {
        "Id": OURS + "outcomes",
        "QueueArn": queue_arn,
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {
            "Key": {
                "FilterRules": [
                    {"Name": "prefix", "Value": layout.JOBS},
                    {"Name": "suffix", "Value": layout.OUTCOME_FILE},
                ]
            }
        },
    }
    with _optional("event notifications to SQS", "new outcomes are looked for once a second instead"):
        found: Any = await s3.get_bucket_notification_configuration(Bucket=bucket)
        found.pop("ResponseMetadata", None)
        queues = found.get("QueueConfigurations", [])
        wanted = merged(queues, [ours], key="Id")
        if [_comparable(rule) for rule in wanted] != [_comparable(rule) for rule in queues]:
            await _put_notification(s3, bucket, found | {"QueueConfigurations": wanted})
        return True
    return False


async def _put_notification(s3: "S3Client", bucket: str, configuration: Any) -> None:
    for attempt in range(NOTIFICATION_ATTEMPTS):
        try:
            await s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
        except ClientError as error:
            if attempt == NOTIFICATION_ATTEMPTS - 1 or "Unable to validate" not in str(error):
                raise
            await asyncio.sleep(1)
        else:
            return


def _comparable(rule: Rule) -> Rule:
    """Even out what storages write differently: `Prefix` for `prefix`, and the order of filters."""
    filters = rule.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    return rule | {"Filter": sorted((one["Name"].lower(), one["Value"]) for one in filters)}


def merged(found: Sequence[Any], ours: Sequence[Rule], *, key: str) -> list[Any]:
    """Put our rules in the place of those with their ids, and leave those of others as they are."""
    by_id = {rule[key]: rule for rule in ours}
    kept = [by_id.pop(rule.get(key), rule) for rule in found]
    return [*kept, *by_id.values()]


def _raise_unless(error: ClientError, code: str) -> None:
    if error.response["Error"]["Code"] != code:
        raise error


@contextmanager
def _optional(feature: str, consequence: str) -> Iterator[None]:
    """Go on without a feature that this storage lacks or refuses."""
    try:
        yield
    except ClientError as error:
        reason = error.response["Error"]
        log.warning(
            "the storage does not take " + feature,
            consequence=consequence,
            code=reason.get("Code"),
            reason=reason.get("Message"),
        )


@contextmanager
def _translated(settings: Settings) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError, OSError) as error:
        s3 = settings.endpoint_for("s3") or "AWS"
        sqs = settings.endpoint_for("sqs") or "AWS"
        raise Unavailable(f"Can't provision S3 at {s3} and SQS at {sqs}: {error}") from error


def main() -> int:
    """Provision what the environment points at."""
    try:
        settings = load_settings()
        configure_logging(settings, "provision")
        asyncio.run(provision(settings))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except Unavailable as error:
        print(error.message, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
