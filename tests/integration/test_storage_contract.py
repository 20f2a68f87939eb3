"""The contract of `Bucket`, for the fake of the unit tests and for S3."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from pipeline.clients.resources import Resources
from pipeline.clients.s3_bucket import S3Bucket
from pipeline.clients.storage import Bucket, ObjectVersion, PreconditionFailed, RangeNotSatisfiable
from pipeline.errors import Misconfigured, Unavailable
from pipeline.settings import Settings
from tests.support.fakes.bucket import FakeBucket
from tests.support.fakes.clock import FakeTime
from tests.support.http_server import override
from tests.support.moto_server import provisioned, put_many

TEXT = "text/plain"
LOCALSTACK = [pytest.mark.slow, pytest.mark.xdist_group("localstack")]
WRONG_ETAG = '"00000000000000000000000000000000"'


@pytest.fixture(params=["fake", "s3", pytest.param("localstack", marks=LOCALSTACK)])
async def bucket(request: pytest.FixtureRequest) -> AsyncIterator[Bucket]:
    if request.param == "fake":
        yield FakeBucket(FakeTime(datetime.now(UTC)))
        return
    settings: Settings = request.getfixturevalue("settings")
    if request.param == "localstack":
        settings = override(settings, aws_endpoint_url=request.getfixturevalue("localstack"))
    async with provisioned(settings) as resources:
        yield resources.bucket


async def keys(bucket: Bucket, prefix: str, start_after: str = "") -> list[str]:
    return [item.key async for item in bucket.list(prefix, start_after=start_after)]


async def folders(bucket: Bucket, prefix: str, start_after: str = "") -> list[str]:
    return [name async for name in bucket.list_folders(prefix, start_after=start_after)]


async def test_put_and_read(bucket: Bucket) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    await bucket.put("a/b.txt", b"\x00bytes", TEXT)
    stored = await bucket.read("a/b.txt")
    assert stored is not None
    assert (stored.body, stored.content_type, stored.size, stored.content_range) == (b"\x00bytes", TEXT, 6, None)
    assert before <= stored.last_modified <= datetime.now(UTC) + timedelta(seconds=2)
    assert await bucket.get("a/b.txt") == b"\x00bytes"


async def test_empty_object_exists(bucket: Bucket) -> None:
    await bucket.put("empty", b"", TEXT)
    assert await bucket.get("empty") == b""


async def test_missing_object_is_none(bucket: Bucket) -> None:
    assert await bucket.get("nothing") is None
    assert await bucket.read("nothing", if_match=WRONG_ETAG) is None
    assert await bucket.head("nothing") is None


async def test_head_size_and_last_modified(bucket: Bucket) -> None:
    await bucket.put("k", b"12345", TEXT)
    info, stored = await bucket.head("k"), await bucket.read("k")
    assert info is not None
    assert stored is not None
    assert (info.key, info.size, info.last_modified) == ("k", 5, stored.last_modified)


async def test_put_overwrites(bucket: Bucket) -> None:
    await bucket.put("k", b"one", TEXT)
    await bucket.put("k", b"two", TEXT)
    assert await bucket.get("k") == b"two"


async def test_put_once_keeps_first(bucket: Bucket) -> None:
    etag = await bucket.put_once("k", b"first", TEXT)
    assert await bucket.put_once("k", b"second", TEXT) is None
    stored = await bucket.read("k")
    assert stored is not None
    assert (stored.body, stored.etag) == (b"first", etag)


async def test_metadata_read_with_object(bucket: Bucket) -> None:
    await bucket.put_once("k", b"first", TEXT, metadata={"made": '{"by": "us"}'})
    await bucket.put_once("k", b"second", TEXT, metadata={"made": "later"})
    stored = await bucket.read("k", range_="bytes=0-1")
    assert stored is not None
    assert (stored.body, stored.metadata) == (b"fi", {"made": '{"by": "us"}'})
    await bucket.put("k", b"third", TEXT)
    stored = await bucket.read("k")
    assert stored is not None
    assert stored.metadata == {}


async def test_put_once_after_delete(bucket: Bucket) -> None:
    await bucket.put_once("k", b"first", TEXT)
    await bucket.delete(["k"])
    assert await bucket.put_once("k", b"second", TEXT) is not None


async def test_replace_requires_matching_etag(bucket: Bucket) -> None:
    etag = await bucket.put_once("k", b"one", TEXT)
    assert etag is not None
    newer = await bucket.replace("k", b"two", TEXT, etag=etag)
    assert newer not in {None, etag}
    assert await bucket.replace("k", b"three", TEXT, etag=etag) is None
    assert await bucket.get("k") == b"two"


async def test_replace_missing_object(bucket: Bucket) -> None:
    etag = await bucket.put_once("k", b"one", TEXT)
    await bucket.delete(["k"])
    assert await bucket.replace("k", b"two", TEXT, etag=etag or "") is None
    assert await bucket.get("k") is None


@pytest.mark.parametrize(
    ("range_", "body", "content_range"),
    [
        ("bytes=0-2", b"012", "bytes 0-2/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-4", b"6789", "bytes 6-9/10"),
        ("bytes=8-100", b"89", "bytes 8-9/10"),
        ("bytes=-100", b"0123456789", "bytes 0-9/10"),
    ],
)
async def test_read_range(bucket: Bucket, range_: str, body: bytes, content_range: str) -> None:
    await bucket.put("k", b"0123456789", TEXT)
    stored = await bucket.read("k", range_=range_)
    assert stored is not None
    assert (stored.body, stored.content_range, stored.size) == (body, content_range, 10)


async def test_read_range_not_satisfiable(bucket: Bucket) -> None:
    await bucket.put("k", b"0123456789", TEXT)
    with pytest.raises(RangeNotSatisfiable):
        await bucket.read("k", range_="bytes=10-")


async def test_read_if_match(bucket: Bucket) -> None:
    etag = await bucket.put_once("k", b"body", TEXT)
    with pytest.raises(PreconditionFailed):
        await bucket.read("k", if_match=WRONG_ETAG)
    stored = await bucket.read("k", if_match=etag)
    assert stored is not None
    assert stored.body == b"body"


async def test_list_sorted_by_key(bucket: Bucket) -> None:
    for key in ("p/b", "p/a/2", "p/a/10", "p/a-1", "p/B", "other/a"):
        await bucket.put(key, b"body", TEXT)
    assert await keys(bucket, "p/") == ["p/B", "p/a-1", "p/a/10", "p/a/2", "p/b"]
    assert await keys(bucket, "p/", "p/a/10") == ["p/a/2", "p/b"]
    assert await keys(bucket, "p/", "p/a/") == ["p/a/10", "p/a/2", "p/b"]
    assert await keys(bucket, "nothing/") == []


async def test_list_size_and_last_modified(bucket: Bucket) -> None:
    await bucket.put("p/a", b"123", TEXT)
    info = await bucket.head("p/a")
    assert [item async for item in bucket.list("p/")] == [info]


async def test_list_folders_unique_without_files(bucket: Bucket) -> None:
    for key in ("v/nova/x", "v/nova/y", "v/nova-2/x", "v/zoe/x", "v/file", "w/other/x"):
        await bucket.put(key, b"", TEXT)
    assert await folders(bucket, "v/") == ["nova-2", "nova", "zoe"]
    assert await folders(bucket, "v/", "v/nova/zzz") == ["zoe"]
    assert await folders(bucket, "nothing/") == []


async def test_list_and_delete_over_one_page(resources: Resources) -> None:
    wanted = [f"many/{number:04d}/x" for number in range(1001)]
    put_many(resources.settings, wanted)
    assert await keys(resources.bucket, "many/") == wanted
    assert len(await folders(resources.bucket, "many/")) == 1001
    await resources.bucket.delete(wanted)
    assert await keys(resources.bucket, "many/") == []


async def versions(bucket: Bucket, prefix: str) -> list[ObjectVersion]:
    return [version async for version in bucket.list_versions(prefix)]


async def test_delete_versions(bucket: Bucket) -> None:
    for key in ("v/a", "v/b", "w/c"):
        await bucket.put(key, b"body", TEXT)
    found = await versions(bucket, "v/")
    assert [(version.key, version.is_latest) for version in found] == [("v/a", True), ("v/b", True)]
    await bucket.delete_versions(found[:1])
    await bucket.delete_versions([])
    assert await keys(bucket, "") == ["v/b", "w/c"]
    await bucket.delete_versions(found)  # the first one does not exist anymore
    assert await keys(bucket, "") == ["w/c"]
    assert await versions(bucket, "v/") == []


@pytest.mark.parametrize("kind", ["fake", "s3"])
async def test_delete_all_versions(kind: str, resources: Resources) -> None:
    bucket: Bucket = FakeBucket(FakeTime(datetime.now(UTC)), has_versions=True)
    if kind == "s3":
        assert isinstance(resources.bucket, S3Bucket)
        bucket = resources.bucket
        await bucket._client.put_bucket_versioning(
            Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
        )
    for body in (b"one", b"two"):
        await bucket.put("v/a", body, TEXT)
    await bucket.put("v/b", b"three", TEXT)
    await bucket.delete(["v/a"])
    found = await versions(bucket, "v/")
    assert sorted((version.key, version.is_latest) for version in found) == [
        ("v/a", False),
        ("v/a", False),
        ("v/a", True),  # the delete marker
        ("v/b", True),
    ]
    await bucket.delete_versions(version for version in found if version.is_latest)
    assert await bucket.get("v/a") == b"two"
    await bucket.delete_versions(await versions(bucket, "v/"))
    assert await versions(bucket, "v/") == []


async def test_delete_missing_object(bucket: Bucket) -> None:
    await bucket.put("a", b"", TEXT)
    await bucket.put("b", b"", TEXT)
    await bucket.delete(["a", "nothing"])
    await bucket.delete([])
    assert await keys(bucket, "") == ["b"]


async def test_presigned_post_names_key(bucket: Bucket) -> None:
    form = await bucket.presign_post(
        "a/upload", content_type="audio/wav", max_bytes=10, lifetime=timedelta(minutes=1)
    )
    assert form.fields["key"] == "a/upload"


async def test_presigned_get_url_parameters(bucket: Bucket) -> None:
    await bucket.put("a/b.wav", b"body", TEXT)
    url = await bucket.presign_get(
        "a/b.wav", lifetime=timedelta(minutes=1), content_type="audio/wav", disposition='inline; filename="x.wav"'
    )
    assert urlsplit(url).path.endswith("/a/b.wav")
    assert {"audio/wav", 'inline; filename="x.wav"'} <= {value for _, value in parse_qsl(urlsplit(url).query)}


async def test_presigned_get_serves_object(resources: Resources) -> None:
    await resources.bucket.put("a/b.wav", b"body", TEXT)
    url = await resources.bucket.presign_get(
        "a/b.wav", lifetime=timedelta(seconds=61.9), content_type="audio/wav", disposition="inline"
    )
    assert "X-Amz-Expires=61&" in url
    async with httpx.AsyncClient() as client:
        answer = await client.get(url, headers={"Range": "bytes=1-2"})
    assert (answer.status_code, answer.content) == (206, b"od")
    assert (answer.headers["content-type"], answer.headers["content-disposition"]) == ("audio/wav", "inline")


async def test_ping_existing_bucket(bucket: Bucket) -> None:
    await bucket.ping()


async def test_unreachable_bucket_is_unavailable(bucket: Bucket) -> None:
    unreachable = _unreachable(bucket)
    for call in (
        unreachable.ping,
        lambda: unreachable.get("k"),
        lambda: unreachable.put_once("k", b"", TEXT),
        lambda: keys(unreachable, ""),
    ):
        with pytest.raises(Unavailable):
            await call()


async def test_missing_bucket_is_misconfigured(resources: Resources) -> None:
    assert isinstance(resources.bucket, S3Bucket)
    unreachable = S3Bucket(resources.bucket._client, "no-such-bucket")
    for call in (
        unreachable.ping,
        lambda: unreachable.get("k"),
        lambda: unreachable.put_once("k", b"", TEXT),
        lambda: keys(unreachable, ""),
    ):
        with pytest.raises(Misconfigured, match="no-such-bucket"):
            await call()


def _unreachable(bucket: Bucket) -> Bucket:
    if isinstance(bucket, FakeBucket):
        bucket.switch.is_up = False
        return bucket
    assert isinstance(bucket, S3Bucket)
    return S3Bucket(bucket._client, "no-such-bucket")
