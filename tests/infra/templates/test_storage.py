"""The buckets of the templates: retention, privacy and CORS."""

import pytest
from provisioning.buckets import UNFINISHED_UPLOAD_DAYS, expiry_rules

from pipeline.contract import layout
from pipeline.settings import Settings
from tests.infra.cloudformation import (
    properties,
    resources,
    values,
)

DEFAULTS = Settings()


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


def test_bucket_cors_rules() -> None:
    reading, writing = properties("storage", "Ephemeral")["CorsConfiguration"]["CorsRules"]
    # After a cross-origin redirect, browsers send `Origin: null`.  The signature controls the access.
    assert (reading["AllowedOrigins"], reading["AllowedMethods"]) == (["*"], ["GET", "HEAD"])
    condition, form, otherwise = writing["Fn::If"]
    assert condition == "HasOrigins"
    assert (form["AllowedOrigins"], form["AllowedMethods"]) == ({"Ref": "CorsOrigins"}, ["POST"])
    assert otherwise == {"Ref": "AWS::NoValue"}


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
