"""The buckets of the templates: retention, privacy and CORS."""

import pytest
from provisioning.buckets import UNFINISHED_UPLOAD_DAYS, expiry_rules

from pipeline.contract import layout
from pipeline.settings import Settings
from tests.infra.cloudformation import (
    properties,
    resources,
    template,
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
    (encryption,) = found["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == {"Ref": "Encryption"}
    assert values(found["OwnershipControls"]) == ["BucketOwnerEnforced"]
    (statement,) = properties("storage", f"{bucket}Policy")["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [{"Fn::GetAtt": [bucket, "Arn"]}, {"Fn::Sub": f"${{{bucket}.Arn}}/*"}]


def test_buckets_use_customer_key() -> None:
    assert template("storage")["Parameters"]["Encryption"]["Default"] == "AES256"
    assert properties("root", "Storage")["Parameters"]["Encryption"]["Fn::If"][1:] == ["aws:kms", "AES256"]
    key = {"Fn::If": ["HasKey", {"Fn::GetAtt": ["Key", "Arn"]}, {"Ref": "AWS::NoValue"}]}
    for bucket in ("Ephemeral", "Voices"):
        (encryption,) = properties("storage", bucket)["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert encryption["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] == key
    assert resources("storage")["Key"]["DeletionPolicy"] == "RetainExceptOnCreate"
    _, through_s3 = properties("storage", "Key")["KeyPolicy"]["Statement"]
    assert set(through_s3["Condition"]["StringEquals"]) == {"kms:CallerAccount", "kms:ViaService"}


def test_trail_records_voices_bucket() -> None:
    (selector,) = properties("trail", "Trail")["AdvancedEventSelectors"]
    (objects,) = (one["StartsWith"] for one in selector["FieldSelectors"] if one["Field"] == "resources.ARN")
    assert objects == [{"Fn::Sub": "arn:${AWS::Partition}:s3:::${VoicesBucket}/"}]


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


def test_audit_objects_are_only_added() -> None:
    bucket = properties("audit", "Bucket")
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    condition, lock, otherwise = bucket["ObjectLockConfiguration"]["Fn::If"]
    assert (condition, otherwise) == ("IsLocked", {"Ref": "AWS::NoValue"})
    assert lock["Rule"]["DefaultRetention"] == {"Mode": {"Ref": "Lock"}, "Days": {"Ref": "RetentionDays"}}
    rule = bucket["LifecycleConfiguration"]["Rules"][0]
    assert (rule["Prefix"], rule["ExpirationInDays"]) == (layout.AUDIT, {"Ref": "RetentionDays"})
    _, only_new, no_deletion = properties("audit", "Policy")["PolicyDocument"]["Statement"]
    assert (only_new["Effect"], only_new["Action"]) == ("Deny", "s3:PutObject")
    assert only_new["Condition"] == {"Null": {"s3:if-none-match": "true"}}
    assert (no_deletion["Effect"], no_deletion["Action"]) == ("Deny", ["s3:DeleteObject", "s3:DeleteObjectVersion"])
    assert resources("audit")["Bucket"]["DeletionPolicy"] == "RetainExceptOnCreate"
