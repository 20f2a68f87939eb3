"""Buckets, their lifecycle and CORS rules, and their event notifications."""

import asyncio
import math
from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from botocore.exceptions import ClientError

from pipeline.access.rate_limits import SHARE_RETENTION
from pipeline.contract import layout, retention
from pipeline.settings import Settings
from provisioning.rules import OURS, Rule, merged, optional

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

log = structlog.get_logger()

READING_CORS_ID, FORMS_CORS_ID = OURS + "presigned-urls", OURS + "presigned-forms"
CHANGE_RETENTION = timedelta(days=7)  # the sweeper deletes these within minutes; a remaining one indicates a fault
UNFINISHED_UPLOAD_DAYS = 1
NOTIFICATION_ATTEMPTS = 5  # AWS takes a few seconds to apply a new queue policy


async def provision_buckets(s3: "S3Client", settings: Settings) -> None:
    """Create the buckets and set their lifecycle and CORS rules."""
    for name in settings.buckets:
        await _ensure_bucket(s3, name, settings.aws_region)
    await _set_lifecycle(s3, settings.bucket, [*expiry_rules(settings), unfinished_upload_rule()])
    if settings.bucket_for_voices != settings.bucket:
        await _set_lifecycle(s3, settings.bucket_for_voices, [unfinished_upload_rule()])
    if settings.audit_retention_days:
        await _set_lifecycle(s3, settings.bucket_for_audit, [expiry_rule(layout.AUDIT, settings.audit_retention)])
    await _set_cors(s3, settings.bucket, settings.allowed_origins)


async def bucket_exists(s3: "S3Client", name: str) -> bool:
    """Return whether a bucket exists."""
    try:
        await s3.head_bucket(Bucket=name)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status not in {HTTPStatus.NOT_FOUND, HTTPStatus.INSUFFICIENT_STORAGE}:
            raise
        return status != HTTPStatus.NOT_FOUND
    return True


async def _ensure_bucket(s3: "S3Client", name: str, region: str) -> None:
    if await bucket_exists(s3, name):
        return
    if region == "us-east-1":
        await s3.create_bucket(Bucket=name)
    else:
        where: Any = {"LocationConstraint": region}
        await s3.create_bucket(Bucket=name, CreateBucketConfiguration=where)
    log.debug("created a bucket", bucket=name)


def expiry_rules(settings: Settings) -> list[Rule]:
    """Return the lifecycle rules that back up the sweeper, rounded up to whole days."""
    retentions = {
        layout.UPLOADS: settings.upload_retention,
        layout.PREVIEWS: settings.preview_retention,
        layout.JOBS: settings.job_retention,
        layout.CONNECTIONS: settings.connection_retention,
        layout.CHANGES: CHANGE_RETENTION,
        layout.TICKETS: retention.TICKET_LIFETIME,
        layout.IDEMPOTENCY: retention.IDEMPOTENCY_RETENTION,
        layout.FINGERPRINTS: settings.job_retention,
        layout.LISTED_CONSENTS: settings.upload_retention,
        layout.QUOTAS: SHARE_RETENTION,
        layout.IN_FLIGHT: settings.job_deadline,
        layout.WEBHOOK_ATTEMPTS: settings.job_retention,
        layout.DERIVED: settings.job_retention,
    }
    return [expiry_rule(prefix, lifetime) for prefix, lifetime in retentions.items()]


def expiry_rule(prefix: str, lifetime: timedelta) -> Rule:
    """Return the lifecycle rule that deletes the objects under a prefix, after whole days."""
    return {
        "ID": OURS + "expire-" + prefix.strip("/").replace("/", "-"),
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "Expiration": {"Days": math.ceil(lifetime / timedelta(days=1))},
    }


def unfinished_upload_rule() -> Rule:
    """Return the lifecycle rule that aborts unfinished multipart uploads."""
    return {
        "ID": OURS + "abort-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UNFINISHED_UPLOAD_DAYS},
    }


async def _set_lifecycle(s3: "S3Client", bucket: str, ours: Sequence[Rule]) -> None:
    with optional("lifecycle rules", "the sweeper alone deletes what has expired"):
        try:
            found = (await s3.get_bucket_lifecycle_configuration(Bucket=bucket)).get("Rules", [])
        except ClientError as error:
            _raise_unless(error, "NoSuchLifecycleConfiguration")
            found = []
        rules: Any = merged(found, ours, key="ID")
        if rules != found:
            await s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})


async def _set_cors(s3: "S3Client", bucket: str, origins: Sequence[str]) -> None:
    """Allow every page to read by presigned URLs, and pages of these origins to use presigned forms."""
    with optional("CORS rules", "browsers can't use presigned uploads"):
        try:
            found = (await s3.get_bucket_cors(Bucket=bucket)).get("CORSRules", [])
        except ClientError as error:
            _raise_unless(error, "NoSuchCORSConfiguration")
            found = []
        others = [rule for rule in found if origins or rule.get("ID") != FORMS_CORS_ID]
        rules: Any = merged(others, [reading_rule(), *([forms_rule(origins)] if origins else [])], key="ID")
        if rules != found:
            await s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})


def reading_rule() -> Rule:
    """Return the rule that allows pages to read: after a redirect from another origin, the origin is `null`.

    Access is controlled by the signature of the URL.
    """
    return {
        "ID": READING_CORS_ID,
        "AllowedOrigins": ["*"],
        "AllowedMethods": ["GET", "HEAD"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag", "Content-Length", "Content-Range"],
        "MaxAgeSeconds": 3600,
    }


def forms_rule(origins: Sequence[str]) -> Rule:
    """Return the rule that allows pages of these origins to use presigned forms."""
    return {
        "ID": FORMS_CORS_ID,
        "AllowedOrigins": list(origins),
        "AllowedMethods": ["POST"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag"],
        "MaxAgeSeconds": 3600,
    }


async def provision_notification(s3: "S3Client", bucket: str, queue_arn: str) -> bool:
    """Send the events of new outcomes to the queue; return False if the storage can't."""
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
    with optional("event notifications to SQS", "outcomes are polled once a second instead"):
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
    """Normalise differences between storages: `Prefix` for `prefix`, and the order of filters."""
    filters = rule.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    return rule | {"Filter": sorted((one["Name"].lower(), one["Value"]) for one in filters)}


def _raise_unless(error: ClientError, code: str) -> None:
    if error.response["Error"]["Code"] != code:
        raise error
