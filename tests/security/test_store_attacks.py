"""Attacks on the embedded store by local users and web pages are refused."""

import contextlib
import secrets
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from embedded.storage.data_folder import AwsCredentials

from tests.support.embedded_store import REGION, Store, running_store

BUCKET = "voices"
KEY = "audio/voices/nova/source.wav"
PAGE = {"Origin": "https://evil.example"}
OWN_PAGE = {"Origin": "https://studio.example"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that allows one origin to use presigned URLs."""
    with running_store(tmp_path_factory.mktemp("data"), cors_origins=OWN_PAGE["Origin"]) as running:
        yield running


@pytest.fixture(autouse=True)
def _recording_is_unchanged(store: Store) -> Iterator[None]:
    """Create one recording, and check after the test that nothing else changed."""
    s3 = store.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"a voice")
    yield
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == [KEY]
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() == b"a voice"


def refused(response: httpx.Response) -> bool:
    """Return whether a request was refused without CORS headers."""
    cors = [name for name in response.headers if name.startswith("access-control-")]
    return response.status_code == 403 and not cors and b"voice" not in response.content


def signed(
    store: Store,
    method: str,
    path: str,
    *,
    body: bytes = b"",
    service: str = "s3",
    headers: dict[str, str] | None = None,
    payload: str | None = None,
) -> dict[str, str]:
    """Return the headers of a request signed with valid credentials."""
    credentials = Credentials(store.credentials.access_key_id, store.credentials.secret_access_key)
    request = AWSRequest(method=method, url=store.url + path, data=body, headers=headers or {})
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(credentials, service, REGION)
    if payload is not None:
        signer.payload = lambda _request: payload  # type: ignore[assignment, method-assign]
    signer.add_auth(request)
    return dict(request.headers.items())


@pytest.mark.parametrize("path", ["/_ministack/reset", "/_ministack/reset?init=1", "/_ministack/config"])
def test_reset_from_page_is_refused(store: Store, path: str) -> None:
    response = httpx.post(store.url + path, content=b"{}", headers={**PAGE, "Content-Type": "text/plain"})
    assert refused(response)


@pytest.mark.parametrize("path", ["/_ministack/reset", "/_localstack/health", "/health", "/_aws/sqs/messages"])
def test_emulator_routes_are_closed(store: Store, path: str) -> None:
    for method in ("GET", "POST"):
        headers = signed(store, method, path)
        assert httpx.request(method, store.url + path, headers=headers).status_code in (403, 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", f"/{BUCKET}/keys/1/key.json"),
        ("GET", f"/{BUCKET}/{KEY}"),
        ("HEAD", f"/{BUCKET}/{KEY}"),
        ("DELETE", f"/{BUCKET}/{KEY}"),
        ("DELETE", f"/{BUCKET}"),
        ("POST", f"/{BUCKET}?delete"),
        ("GET", f"/{BUCKET}?list-type=2&prefix=connections/"),
        ("GET", "/"),
        ("OPTIONS", f"/{BUCKET}/{KEY}"),
        ("POST", "/?Action=ListQueues"),
        ("POST", "/000000000000/events?Action=ReceiveMessage"),
        ("GET", "/_ministack/health"),
        ("GET", "/_aws/execute-api/x/y/@connections/z"),
    ],
)
def test_unsigned_request_is_refused(store: Store, method: str, path: str) -> None:
    assert refused(httpx.request(method, store.url + path, content=b"x", headers=PAGE))


@pytest.mark.parametrize("form", [{"Action": "ListQueues"}, {"Action": "GetCallerIdentity"}])
def test_query_service_form_is_refused(store: Store, form: dict[str, str]) -> None:
    assert refused(httpx.post(store.url, data=form, headers=PAGE))


@pytest.mark.parametrize(
    "credentials",
    [
        AwsCredentials("test", "test"),
        AwsCredentials("000000000000", "test"),
        AwsCredentials("", ""),
    ],
)
def test_guessed_credentials(store: Store, credentials: AwsCredentials) -> None:
    given = credentials if credentials.access_key_id else AwsCredentials(store.credentials.access_key_id, "guess")
    attempts: list[Callable[[], object]] = [
        lambda: store.client("s3", given).get_object(Bucket=BUCKET, Key=KEY),
        lambda: store.client("sqs", given).list_queues(),
    ]
    for attempt in attempts:
        with pytest.raises(ClientError) as raised:
            attempt()
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"x-amz-copy-source": f"/{BUCKET}/{KEY}"},
        {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"},
        {"x-amz-date": "20260101T000000Z"},
        {"host": "127.0.0.1:1"},
    ],
)
def test_changed_signed_headers_are_refused(store: Store, changes: dict[str, str]) -> None:
    path = f"/{BUCKET}/new"
    headers = signed(store, "PUT", path, body=b"mine") | changes
    assert refused(httpx.put(store.url + path, content=b"mine", headers=headers))


def test_changed_signed_body_is_refused(store: Store) -> None:
    path = f"/{BUCKET}/new"
    headers = signed(store, "PUT", path, body=b"mine")
    assert refused(httpx.put(store.url + path, content=b"evil", headers=headers))
    target = {"X-Amz-Target": "AmazonSQS.ListQueues", "Content-Type": "application/x-amz-json-1.0"}
    headers = signed(store, "POST", "/", body=b"{}", service="sqs", headers=target)
    assert httpx.post(store.url, content=b"{}", headers=headers).status_code == 200
    assert refused(httpx.post(store.url, content=b'{"a":1}', headers=headers))


@pytest.mark.parametrize("service", ["sts", "iam", "lambda", "dynamodb", "execute-api", "secretsmanager"])
def test_other_services_are_closed(store: Store, service: str) -> None:
    headers = signed(store, "POST", "/", service=service, body=b"Action=GetCallerIdentity")
    response = httpx.post(store.url, content=b"Action=GetCallerIdentity", headers=headers)
    assert refused(response)
    assert "no service" in response.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "voices.s3.localhost", "10.0.0.1", ""])
def test_foreign_host_is_refused(store: Store, host: str) -> None:
    headers = signed(store, "GET", f"/{BUCKET}/{KEY}", headers={"host": host})
    assert refused(httpx.get(f"{store.url}/{BUCKET}/{KEY}", headers=headers))


def presigned(store: Store) -> str:
    """Return a presigned URL of the recording."""
    url: str = store.client("s3").generate_presigned_url(
        "get_object", Params={"Bucket": BUCKET, "Key": KEY}, ExpiresIn=60
    )
    return url


@pytest.mark.parametrize(
    "change",
    [
        ("source.wav?", "other.wav?"),
        ("X-Amz-Expires=60", "X-Amz-Expires=6000"),
        ("X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Expires=6000"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders="),
        ("X-Amz-Signature=", "versionId=1&X-Amz-Signature="),
        ("X-Amz-Signature=", "X-Amz-Signature=0"),
        ("X-Amz-Signature=", "X-Amz-Signature=&x-amz-signature="),
    ],
)
def test_changed_presigned_url_is_refused(store: Store, change: tuple[str, str]) -> None:
    link = presigned(store)
    assert httpx.get(link).content == b"a voice"
    assert change[0] in link
    assert refused(httpx.get(link.replace(*change)))


@pytest.mark.parametrize("more", ["&acl", "&versionId=null", "#&acl"])
def test_extended_presigned_url_is_refused(store: Store, more: str) -> None:
    # As raw bytes, because clients do not send the part after a `#`.
    host = httpx.URL(store.url).netloc.decode()
    target = presigned(store).removeprefix(store.url) + more
    with httpx.Client() as client:
        request = client.build_request("GET", store.url, headers={"Host": host})
        request.extensions["target"] = target.encode()
        assert client.send(request).status_code in (400, 403)


@pytest.mark.parametrize(
    ("method", "headers"), [("PUT", {}), ("DELETE", {}), ("GET", {"x-amz-acl": "public-read"})]
)
def test_presigned_url_other_method_is_refused(store: Store, method: str, headers: dict[str, str]) -> None:
    assert refused(httpx.request(method, presigned(store), content=b"x", headers=headers))


@pytest.mark.parametrize(("origin", "allowed"), [("https://studio.example", True), ("https://evil.example", False)])
def test_presigned_url_cors_origins(store: Store, origin: str, allowed: bool) -> None:
    response = httpx.get(presigned(store), headers={"Origin": origin})
    assert response.headers.get("access-control-allow-origin") == (origin if allowed else None)
    request_headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    preflight = httpx.options(f"{store.url}/{BUCKET}", headers=request_headers)
    assert preflight.status_code == (204 if allowed else 403)
    assert preflight.headers.get("access-control-allow-origin") == (origin if allowed else None)
    request_headers["Access-Control-Request-Method"] = "DELETE"
    assert httpx.options(f"{store.url}/{BUCKET}", headers=request_headers).status_code == 403


def test_presigned_url_cors_null_origin(store: Store) -> None:
    redirected = {"Origin": "null"}
    assert httpx.get(presigned(store), headers=redirected).headers["access-control-allow-origin"] == "null"
    assert refused(httpx.get(f"{store.url}/{BUCKET}/{KEY}", headers=redirected))
    request_headers = redirected | {"Access-Control-Request-Method": "POST"}
    assert httpx.options(f"{store.url}/{BUCKET}", headers=request_headers).status_code == 403


def form(store: Store, key: str, max_bytes: int = 10) -> dict[str, str]:
    """Return the fields of an upload form."""
    made: dict[str, Any] = store.client("s3").generate_presigned_post(
        BUCKET, key, Conditions=[["content-length-range", 1, max_bytes]], ExpiresIn=60
    )
    fields: dict[str, str] = made["fields"]
    return fields


def test_upload_form_stores_object(store: Store) -> None:
    posted = httpx.post(f"{store.url}/{BUCKET}", data=form(store, "new"), files={"file": b"mine"}, headers=OWN_PAGE)
    assert (posted.status_code, posted.headers["access-control-allow-origin"]) == (204, OWN_PAGE["Origin"])
    s3 = store.client("s3")
    assert s3.get_object(Bucket=BUCKET, Key="new")["Body"].read() == b"mine"
    s3.delete_object(Bucket=BUCKET, Key="new")


PERMISSIVE_POLICY = b64encode(
    b'{"expiration": "2099-01-01T00:00:00Z", "conditions": [["starts-with", "$key", ""]]}'
).decode()


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": PERMISSIVE_POLICY},
        {"key": "keys/1/key.json"},
        {"x-amz-signature": "0" * 64},
        {"x-amz-credential": "test/20260101/us-east-1/s3/aws4_request"},
        {"x-amz-algorithm": "AWS4-HMAC-SHA1"},
        {"x-amz-date": "20200101T000000Z"},
        {"policy": ""},
    ],
)
def test_changed_upload_form_is_refused(store: Store, changes: dict[str, str]) -> None:
    fields = form(store, "new") | changes
    assert refused(httpx.post(f"{store.url}/{BUCKET}", data=fields, files={"file": b"x"}, headers=PAGE))


def test_unsigned_upload_form_is_refused(store: Store) -> None:
    fields = {"key": "keys/1/key.json", "policy": PERMISSIVE_POLICY}
    for some in (fields, {"key": "keys/1/key.json"}):
        assert refused(httpx.post(f"{store.url}/{BUCKET}", data=some, files={"file": b"x"}, headers=PAGE))


def post_parts(store: Store, parts: list[tuple[str, str]]) -> httpx.Response:
    """Post a form with its parts in the given order, duplicates included."""
    written = [f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in parts]
    return httpx.post(
        f"{store.url}/{BUCKET}",
        content="".join([*written, "--b--\r\n"]).encode(),
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )


FORGED = [("key", "keys/1/key.json"), ("Key", "keys/1/key.json"), ("policy", PERMISSIVE_POLICY)]


@pytest.mark.parametrize("forged", FORGED)
def test_upload_form_duplicate_field(store: Store, forged: tuple[str, str]) -> None:
    fields = [*form(store, "new").items(), ("file", "x")]
    assert refused(post_parts(store, [forged, *fields]))
    assert refused(post_parts(store, [*fields[:-1], forged, fields[-1]]))


@pytest.mark.parametrize("forged", [*FORGED, ("file", "y")])
def test_upload_form_ignores_fields_after_file(store: Store, forged: tuple[str, str]) -> None:
    assert post_parts(store, [*form(store, "new").items(), ("file", "x"), forged]).status_code == 204
    s3 = store.client("s3")
    assert s3.get_object(Bucket=BUCKET, Key="new")["Body"].read() == b"x"
    s3.delete_object(Bucket=BUCKET, Key="new")


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "application/x-amz-json-1.0"), (f"/{BUCKET}", "multipart/form-data; boundary=b")]
)
def test_endless_body_is_not_read(store: Store, path: str, kind: str) -> None:
    sent = []

    def megabytes() -> Iterator[bytes]:
        for number in range(64):
            sent.append(number)
            yield bytes(2**20)

    with contextlib.suppress(httpx.WriteError, httpx.ReadError):
        assert httpx.post(store.url + path, content=megabytes(), headers={"Content-Type": kind}).status_code == 403
    assert len(sent) < 32


def test_large_signed_body_is_stored(store: Store) -> None:
    s3, body = store.client("s3"), secrets.token_bytes(9 * 2**20)
    s3.put_object(Bucket=BUCKET, Key="large", Body=body)
    found = s3.get_object(Bucket=BUCKET, Key="large")["Body"].read()
    s3.delete_object(Bucket=BUCKET, Key="large")
    assert found == body


def test_aws_chunked_body_is_decoded(store: Store) -> None:
    path = f"/{BUCKET}/chunked"
    chunked = {
        "x-amz-decoded-content-length": "4",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "content-encoding": "aws-chunked",
    }
    headers = signed(store, "PUT", path, headers=chunked, payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    checksum = b64encode(zlib.crc32(b"mine").to_bytes(4, "big")).decode()
    body = f"4\r\nmine\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n".encode()
    assert httpx.put(store.url + path, content=body, headers=headers).status_code == 200
    s3 = store.client("s3")
    assert s3.get_object(Bucket=BUCKET, Key="chunked")["Body"].read() == b"mine"
    s3.delete_object(Bucket=BUCKET, Key="chunked")


def test_object_files_private_and_removed(store: Store) -> None:
    s3 = store.client("s3")
    s3.put_object(Bucket=BUCKET, Key="audio/voices/gone/source.wav", Body=b"x")
    made = list(store.folder.rglob("*"))
    assert made
    assert [path for path in made if path.stat().st_mode & 0o077] == []
    s3.delete_object(Bucket=BUCKET, Key="audio/voices/gone/source.wav")
    assert not list(store.folder.rglob("gone*"))
    assert list(store.folder.rglob("nova"))
