"""Verification of AWS signatures that botocore has made."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4PostAuth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pipeline.access.received_request import (
    ReceivedRequest,
    SignatureRefused,
    check_loopback_host,
    check_payload,
    declared_payload,
)
from pipeline.access.request_signatures import SignatureVerifier

CREDENTIALS = Credentials("LOCAL1", "secret")
HOST = "127.0.0.1:9000"


# The cases of the tables below are signed when they are collected, which may be long before they are tried.
COLLECTED_AT = datetime.now(UTC)


def verifier(after: timedelta = timedelta(), secret: str = "secret") -> SignatureVerifier:
    return SignatureVerifier("LOCAL1", secret, lambda: datetime.now(UTC) + after)


def received(request: AWSRequest) -> ReceivedRequest:
    assert request.url is not None
    assert request.method is not None
    target = request.url.removeprefix(f"http://{HOST}")
    headers = [(name.lower(), value) for name, value in request.headers.items()]
    return ReceivedRequest(request.method, target, [("host", HOST), *headers])


def in_header(service: str = "s3", path: str = "/bucket/a%20key", body: bytes = b"") -> ReceivedRequest:
    request = AWSRequest(method="PUT", url=f"http://{HOST}{path}", data=body)
    (S3SigV4Auth if service == "s3" else SigV4Auth)(CREDENTIALS, service, "us-east-1").add_auth(request)
    return received(request)


def in_query(seconds: int = 60) -> ReceivedRequest:
    request = AWSRequest(method="GET", url=f"http://{HOST}/bucket/key?response-content-type=audio%2Fwav")
    S3SigV4QueryAuth(CREDENTIALS, "s3", "us-east-1", expires=seconds).add_auth(request)
    return received(request)


def code_of(request: ReceivedRequest, by: SignatureVerifier, body: bytes = b"") -> str:
    with pytest.raises(SignatureRefused) as raised:
        by.verify(request, body)
    return raised.value.code


def test_botocore_signature_is_accepted() -> None:
    assert verifier().verify(in_header()) == "s3"
    assert verifier().verify(in_header("execute-api", "/%40connections/a%3D", b"{}"), b"{}") == "execute-api"
    assert verifier().verify(in_query()) == "s3"


@pytest.mark.parametrize("minutes", [-6, 6])
def test_signature_date_is_checked(minutes: int) -> None:
    assert code_of(in_header(), verifier(timedelta(minutes=minutes))) == "RequestTimeTooSkewed"


def test_presigned_url_lifetime() -> None:
    link = in_query(seconds=60)
    assert verifier(timedelta(seconds=58)).verify(link) == "s3"
    assert code_of(link, verifier(timedelta(seconds=62))) == "AccessDenied"
    assert code_of(link, verifier(timedelta(minutes=-6))) == "AccessDenied"


@pytest.mark.parametrize("seconds", [0, -1, 604_801])
def test_presigned_url_max_lifetime(seconds: int) -> None:
    assert code_of(in_query(seconds), verifier()) == "AuthorizationQueryParametersError"


@pytest.mark.parametrize("sign", [in_header, in_query])
def test_wrong_secret(sign: Callable[[], ReceivedRequest]) -> None:
    assert code_of(sign(), verifier(secret="guess")) == "SignatureDoesNotMatch"


def test_body_is_verified() -> None:
    sqs = in_header("sqs", "/", b"{}")
    assert declared_payload(sqs) is None
    assert code_of(sqs, verifier(), b"{ }") == "SignatureDoesNotMatch"
    declared = declared_payload(in_header(body=b"mine"))
    check_payload(declared, b"mine")
    with pytest.raises(SignatureRefused):
        check_payload(declared, b"evil")


@pytest.mark.parametrize("declared", ["", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "0" * 63])
def test_payload_declarations(declared: str) -> None:
    with pytest.raises(SignatureRefused, match="should be the SHA-256"):
        declared_payload(ReceivedRequest("PUT", "/", [("x-amz-content-sha256", declared)]))


@pytest.mark.parametrize("more", [("x-amz-acl", "private"), ("host", HOST), ("authorization", "x")])
def test_unsigned_headers(more: tuple[str, str]) -> None:
    signed = in_header()
    changed = replace(signed, headers=[*signed.headers, more])
    assert code_of(changed, verifier()) in ("AccessDenied", "InvalidRequest")


@pytest.mark.parametrize("suffix", ["#", "#&acl", "\t", "\\\u20ac", " "])
def test_ambiguous_target(suffix: str) -> None:
    link = in_query()
    assert code_of(replace(link, target=link.target + suffix), verifier()) == "InvalidURI"


def test_check_header_without_body() -> None:
    verifier().check_header(in_header("sqs", "/", b"body"))
    for refused in (verifier(timedelta(minutes=6)), SignatureVerifier("OTHER", "secret")):
        with pytest.raises(SignatureRefused):
            refused.check_header(in_header("sqs", "/", b"body"))


def test_unknown_service() -> None:
    only_s3 = SignatureVerifier("LOCAL1", "secret", services=frozenset({"s3"}))
    assert code_of(in_header("sqs", "/"), only_s3) == "AccessDenied"


def altered(header: str, old: str, new: str) -> ReceivedRequest:
    """Return a signed request with a part of one header replaced."""
    signed = in_header()
    headers = [(name, value.replace(old, new) if name == header else value) for name, value in signed.headers]
    return replace(signed, headers=headers)


def without(header: str) -> ReceivedRequest:
    """Return a signed request without one of its headers."""
    signed = in_header()
    return replace(signed, headers=[(name, value) for name, value in signed.headers if name != header])


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (without("authorization"), "AccessDenied"),
        (altered("authorization", "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "InvalidArgument"),
        (altered("authorization", "Credential=", "Key="), "AuthorizationHeaderMalformed"),
        (altered("authorization", "/aws4_request", "/aws4"), "AuthorizationHeaderMalformed"),
        (altered("authorization", "/us-east-1", ""), "AuthorizationHeaderMalformed"),
        (altered("authorization", "LOCAL1", "LOCAL2"), "InvalidAccessKeyId"),
        (altered("authorization", "host;", ""), "AccessDenied"),
        (altered("x-amz-date", "Z", ""), "AccessDenied"),
        (altered("x-amz-date", "20", "19"), "AccessDenied"),
        (without("x-amz-content-sha256"), "InvalidRequest"),
        (replace(in_query(), headers=[("host", HOST), ("authorization", "x")]), "InvalidArgument"),
        (
            replace(in_query(), target=in_query().target + "&X-Amz-Date=20300101T000000Z"),
            "AuthorizationQueryParametersError",
        ),
    ],
    ids=[
        "unsigned",
        "algorithm",
        "no credential",
        "no terminator",
        "no region",
        "access key",
        "host not signed",
        "date format",
        "other date",
        "no payload",
        "header and query",
        "date twice",
    ],
)
def test_error_codes_of_s3(request_: ReceivedRequest, code: str) -> None:
    assert code_of(request_, SignatureVerifier("LOCAL1", "secret", lambda: COLLECTED_AT)) == code


def form(**changes: str) -> dict[str, str]:
    """Return the fields of a form that botocore has presigned, some of them replaced."""
    request = AWSRequest(method="POST", url=f"http://{HOST}/bucket")
    fields: dict[str, str] = {}
    request.context["s3-presign-post-fields"] = fields
    request.context["s3-presign-post-policy"] = {"expiration": "2100-01-01T00:00:00Z", "conditions": []}
    S3SigV4PostAuth(CREDENTIALS, "s3", "us-east-1").add_auth(request)
    return fields | changes


def test_presigned_form() -> None:
    verifier().verify_post_policy(form())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"policy": "e30="}, "SignatureDoesNotMatch"),
        ({"x-amz-signature": "0" * 64}, "SignatureDoesNotMatch"),
        ({"policy": ""}, "AccessDenied"),
        ({"x-amz-signature": ""}, "AccessDenied"),
        ({"x-amz-algorithm": "AWS4-HMAC-SHA1"}, "InvalidArgument"),
        ({"x-amz-date": "20000101T000000Z"}, "AccessDenied"),
        ({"x-amz-credential": "LOCAL2/20260101/us-east-1/s3/aws4_request"}, "InvalidAccessKeyId"),
        ({"x-amz-credential": "LOCAL1/20260101/us-east-1/sqs/aws4_request"}, "AccessDenied"),
    ],
    ids=["policy", "signature", "no policy", "no signature", "algorithm", "date", "access key", "service"],
)
def test_changed_form_is_refused(changes: dict[str, str], code: str) -> None:
    with pytest.raises(SignatureRefused) as refused:
        verifier().verify_post_policy(form(**changes))
    assert refused.value.code == code


def test_request_from_asgi_scope() -> None:
    request = ReceivedRequest.from_scope(
        {
            "method": "PUT",
            "raw_path": b"/bucket/a%20key",
            "query_string": b"a=b%20c",
            "headers": [(b"Host", HOST.encode()), (b"x-amz-meta-name", "\u00e4".encode()), (b"x-old", b"\xe4")],
        }
    )
    assert (request.method, request.target) == ("PUT", "/bucket/a%20key?a=b%20c")
    assert request.header("host") == HOST
    assert (request.header("x-amz-meta-name"), request.header("x-old")) == ("\u00e4", "\u00e4")
    assert request.query() == [("a", "b c")]
    assert ReceivedRequest.from_scope({"raw_path": b"/", "query_string": b"", "headers": []}).target == "/"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "[::1]:4566"])
def test_loopback_hosts(host: str) -> None:
    check_loopback_host(ReceivedRequest("GET", "/", [("host", host)]))


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost:x", "127.0.0.1@evil", ""])
def test_other_hosts(host: str) -> None:
    with pytest.raises(SignatureRefused):
        check_loopback_host(ReceivedRequest("GET", "/", [("host", host)]))
