"""The embedded store without space: failed writes change nothing, and it recovers without a restart."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError
from embedded import configuration
from provisioning.provision import provision

from pipeline.clients.resources import connect
from pipeline.errors import StorageFull
from pipeline.settings import Settings
from tests.support.embedded_store import Store, running_store

pytestmark = [
    pytest.mark.xdist_group("full store"),
    pytest.mark.skipif(sys.platform != "linux", reason="limits the size of another process's files"),
]

BUCKET = "voice-cloning"
LARGE = b"x" * 200_000
LIMIT = 100_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("full")


@pytest.fixture(scope="module")
def store(data: Path) -> Iterator[Store]:
    with running_store(data) as running:
        yield running


@pytest.fixture
def s3(store: Store) -> Iterator[Any]:
    client = store.client("s3")
    client.create_bucket(Bucket=BUCKET)
    client.put_object(Bucket=BUCKET, Key="kept", Body=b"before", ContentType="text/before")
    yield client
    store.limit_file_size(None)
    for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=item["Key"])


def put(s3: Any, key: str, **conditions: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key=key, Body=LARGE, **conditions)


def put_once(s3: Any, key: str) -> None:
    put(s3, key, **({} if key == "kept" else {"IfNoneMatch": "*"}))


def copy(s3: Any, key: str) -> None:
    s3.copy_object(Bucket=BUCKET, Key=key, CopySource={"Bucket": BUCKET, "Key": "large"})


def upload_in_parts(s3: Any, key: str) -> None:
    upload = {
        "Bucket": BUCKET,
        "Key": key,
        "UploadId": s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"],
    }
    etag = s3.upload_part(**upload, PartNumber=1, Body=LARGE)["ETag"]
    done = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    for _ in range(2):  # a retry is not answered from memory
        with pytest.raises(ClientError) as failed:
            s3.complete_multipart_upload(**upload, MultipartUpload=done)
    raise failed.value


def post_form(s3: Any, key: str) -> None:
    form = s3.generate_presigned_post(BUCKET, key)
    response = httpx.post(form["url"], data=form["fields"], files={"file": LARGE})
    if response.status_code >= 400:
        raise ClientError({"ResponseMetadata": {"HTTPStatusCode": response.status_code}}, "POST")  # type: ignore[typeddict-item]


def files(store: Store) -> set[str]:
    return {str(path.relative_to(store.folder)) for path in store.folder.rglob("*")}


def status_of(error: pytest.ExceptionInfo[ClientError]) -> int:
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize("write", [put, put_once, copy, upload_in_parts, post_form])
@pytest.mark.parametrize("key", ["kept", "new", "a/new/folder"])
def test_failed_write_changes_nothing(
    store: Store, s3: Any, write: Callable[[Any, str], None], key: str, data: Path
) -> None:
    put(s3, "large")
    files_before, list_before = files(store), s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    store.limit_file_size(LIMIT)
    with pytest.raises(ClientError) as error:
        write(s3, key)
    assert status_of(error) == 507
    assert files(store) == files_before
    assert s3.list_objects_v2(Bucket=BUCKET)["Contents"] == list_before
    kept = s3.get_object(Bucket=BUCKET, Key="kept")
    assert (kept["Body"].read(), kept["ContentType"]) == (b"before", "text/before")
    store.limit_file_size(None)
    put(s3, key)
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == LARGE


def test_objects_can_be_deleted_without_space(store: Store, s3: Any) -> None:
    for key in ("one", "two"):
        put(s3, key)
    store.limit_file_size(0)
    s3.delete_object(Bucket=BUCKET, Key="one")
    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "two"}]})
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["kept"]
    assert not {name for name in files(store) if "one" in name or "two" in name}


def test_head_bucket_reports_missing_space(store: Store, s3: Any) -> None:
    s3.head_bucket(Bucket=BUCKET)
    store.limit_file_size(LIMIT)
    with pytest.raises(ClientError) as error:
        s3.head_bucket(Bucket=BUCKET)
    assert status_of(error) == 507
    store.limit_file_size(None)
    s3.head_bucket(Bucket=BUCKET)


async def test_client_raises_storage_full(store: Store, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    etag = s3.head_object(Bucket=BUCKET, Key="kept")["ETag"]
    for name, value in configuration.client_environment(store.port, store.credentials).items():
        monkeypatch.setenv(name, value)
    store.limit_file_size(LIMIT)
    async with connect(Settings()) as resources:
        bucket = resources.bucket
        for call in (
            bucket.put("new", LARGE, "text/plain"),
            bucket.put_once("new", LARGE, "text/plain"),
            bucket.replace("kept", LARGE, "text/plain", etag=etag),
            bucket.ping(),
        ):
            with pytest.raises(StorageFull):
                await call
        assert await bucket.get("kept") == b"before"
        await bucket.delete(["kept"])


async def test_provision_without_space(store: Store, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in configuration.client_environment(store.port, store.credentials).items():
        monkeypatch.setenv(name, value)
    store.limit_file_size(0)
    assert (await provision(Settings())).notifies


def test_failed_write_sends_no_event(store: Store, s3: Any) -> None:
    sqs = store.client("sqs")
    queue = sqs.create_queue(QueueName="events")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    configuration = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket=BUCKET, NotificationConfiguration=configuration)
    sqs.purge_queue(QueueUrl=queue)
    store.limit_file_size(LIMIT)
    with pytest.raises(ClientError):
        put(s3, "failed")
    s3.put_object(Bucket=BUCKET, Key="written", Body=b"small")
    messages = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5, MaxNumberOfMessages=10)["Messages"]
    keys = [
        record["s3"]["object"]["key"] for message in messages for record in json.loads(message["Body"])["Records"]
    ]
    assert keys == ["written"]


def test_missing_file_is_not_read_as_empty(store: Store, s3: Any) -> None:
    put(s3, "lost")
    (file,) = store.folder.rglob("lost")
    file.unlink()
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=BUCKET, Key="lost")
    assert status_of(error) in {404, 500}  # boto3 retries the latter
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["kept"]


def test_acknowledged_objects_survive_restart(tmp_path: Path) -> None:
    acknowledged = {}
    with running_store(tmp_path) as store:
        s3 = store.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        store.limit_file_size(LIMIT)
        for number in range(20):
            body = LARGE if number % 3 else b"small"
            try:
                s3.put_object(Bucket=BUCKET, Key=f"{number % 7}", Body=body)
            except ClientError:
                continue
            acknowledged[f"{number % 7}"] = body
    with running_store(tmp_path) as store:
        s3 = store.client("s3")
        listed = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
        assert {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in listed} == acknowledged


def test_keys_without_path_survive_restart(tmp_path: Path) -> None:
    """A key that is no path, or is under the file of another key, has a file of its own."""
    keys = ["a", "a/b", "c/d", "c", "e/", "f//g", "../h", "i/..", "j" * 300, "k.meta.json", "l.tmp", "m/é"]
    with running_store(tmp_path) as store:
        s3 = store.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        for key in keys:
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"old")
            s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
        s3.delete_object(Bucket=BUCKET, Key=keys.pop(0))
    with running_store(tmp_path) as store:
        s3 = store.client("s3")
        assert [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == sorted(keys)
        for key in keys:
            assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == key.encode()
            s3.delete_object(Bucket=BUCKET, Key=key)
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "reserve"]
