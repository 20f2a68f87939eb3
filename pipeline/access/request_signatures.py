"""Verification of AWS Signature Version 4.

The embedded AWS and the local `@connections` route accept only requests that this module accepts.  It does not use
botocore's signers, which would take a sixth of the CPU time of a request to the embedded AWS.  It imports only
botocore and the standard library, because the embedded AWS runs in a virtual environment of its own.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import quote

from botocore.utils import normalize_url_path

from pipeline.access.received_request import (
    UNSIGNED_PAYLOAD,
    ReceivedRequest,
    SignatureRefused,
    declared_payload,
    is_presigned,
)

ALGORITHM = "AWS4-HMAC-SHA256"
CLOCK_SKEW = timedelta(minutes=5)
LONGEST_PRESIGN = timedelta(days=7)

_CONTENT_SHA256 = "x-amz-content-sha256"
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_PRESIGN_PARAMETERS = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
# Characters that `urlsplit` splits at, or drops: such a URL would be verified in one form and served in another.
_TARGET = re.compile(r"/[!-\"$-~]*")


@dataclass(frozen=True, slots=True)
class _Scope:
    """`Credential` of a signature: `<access key>/<date>/<region>/<service>/aws4_request`."""

    access_key: str
    date: str
    region: str
    service: str


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """The contents of `Authorization` and `X-Amz-Date`, with the names and values of the signed headers."""

    scope: _Scope
    date: str
    signed: Mapping[str, str]
    signature: str


class SignatureVerifier:
    """Verifies requests that are signed with one pair of credentials.

    Parameters
    ----------
    access_key, secret_key
        The credentials.
    clock
        The current time, in UTC.
    services
        The signing names of the services that a signature may be for, or None for any service.
    """

    def __init__(
        self,
        access_key: str,
        secret_key: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        services: frozenset[str] | None = None,
    ) -> None:
        self._access_key = access_key
        self._secret_key = secret_key
        self._clock = clock
        self._services = services

    def verify(self, request: ReceivedRequest, body: bytes = b"", header: SignedHeader | None = None) -> str:
        """Verify the signature in a request's `Authorization` header, or in its query. Return the service's name.

        Parameters
        ----------
        request
            The request.
        body
            Its body, which is read only if the request does not declare its hash (see `declared_payload`).
        header
            The result of `check_header`, if it was called.

        Raises
        ------
        SignatureRefused
            The signature is missing, expired or not valid.
        """
        if is_presigned(request):
            _check_target(request)
            if request.header("authorization") is not None:
                raise SignatureRefused("InvalidArgument", "Sign the header or the query, not both.")
            return self._verify_query(request)
        return self._verify_header(request, header or self.check_header(request), body)

    def check_header(self, request: ReceivedRequest) -> SignedHeader:
        """Check the access key, service and date of a request that is signed in `Authorization`.

        It needs no body, so that the body of a request with other credentials is never read.

        Raises
        ------
        SignatureRefused
            The header is missing or not valid.
        """
        _check_target(request)
        authorization = request.header("authorization")
        if authorization is None:
            raise SignatureRefused(
                "AccessDenied", "The request is not signed. Sign it with AWS Signature Version 4."
            )
        algorithm, _, rest = authorization.partition(" ")
        _check_algorithm(algorithm)
        parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        if set(parts) != {"Credential", "SignedHeaders", "Signature"}:
            raise SignatureRefused(
                "AuthorizationHeaderMalformed", "`Authorization` needs Credential, SignedHeaders and Signature."
            )
        scope = self._scope(parts["Credential"])
        date = request.header("x-amz-date") or ""
        if abs(self._clock() - _parse_date(date, scope)) > CLOCK_SKEW:
            raise SignatureRefused(
                "RequestTimeTooSkewed", f"The request was not signed within {CLOCK_SKEW} of this server's clock."
            )
        if scope.service == "s3" and declared_payload(request) is None:
            raise SignatureRefused("InvalidRequest", f"The header `{_CONTENT_SHA256}` is missing.")
        signed = _signed_headers(request, parts["SignedHeaders"], required={"host", "x-amz-date"})
        return SignedHeader(scope, date, signed, parts["Signature"])

    def verify_post_policy(self, fields: Mapping[str, str]) -> None:
        """Verify the signature of a presigned form's policy. Whether the form meets the policy is not checked.

        Raises
        ------
        SignatureRefused
            A field is missing, or the signature is not valid.
        """
        names = ("policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")
        if missing := [name for name in names if not fields.get(name)]:
            raise SignatureRefused("AccessDenied", f"The form is not signed: it has no field {missing[0]}.")
        _check_algorithm(fields["x-amz-algorithm"])
        scope = self._scope(fields["x-amz-credential"])
        if scope.service != "s3":
            raise SignatureRefused("AccessDenied", "A form's policy has to be signed for s3.")
        _parse_date(fields["x-amz-date"], scope)
        _compare(self._signed(scope, fields["policy"]), fields["x-amz-signature"])

    def _verify_header(self, request: ReceivedRequest, header: SignedHeader, body: bytes) -> str:
        scope, (path, _, query) = header.scope, request.target.partition("?")
        if scope.service != "s3":
            path = quote(normalize_url_path(path), safe="/~")
        payload = declared_payload(request) or hashlib.sha256(body).hexdigest()
        canonical = _canonical(request.method, path, query, header.signed, payload)
        _compare(self._signature(scope, header.date, canonical), header.signature)
        return scope.service

    def _verify_query(self, request: ReceivedRequest) -> str:
        given = _presign_parameters(request)
        _check_algorithm(given["Algorithm"])
        scope = self._scope(given["Credential"])
        if scope.service != "s3":
            raise SignatureRefused("AccessDenied", "Only requests to s3 may be presigned.")
        self._check_lifetime(_parse_date(given["Date"], scope), given["Expires"])
        signed = _signed_headers(request, given["SignedHeaders"], required={"host"})
        path, _, query = request.target.partition("?")
        query = "&".join(pair for pair in query.split("&") if not pair.startswith("X-Amz-Signature="))
        canonical = _canonical(request.method, path, query, signed, signed.get(_CONTENT_SHA256, UNSIGNED_PAYLOAD))
        _compare(self._signature(scope, given["Date"], canonical), given["Signature"])
        return scope.service

    def _signature(self, scope: _Scope, date: str, canonical: str) -> str:
        """Return the signature that a request should have."""
        named = f"{scope.date}/{scope.region}/{scope.service}/aws4_request"
        return self._signed(
            scope, f"{ALGORITHM}\n{date}\n{named}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        )

    def _signed(self, scope: _Scope, text: str) -> str:
        key = _signing_key(self._secret_key, scope.date, scope.region, scope.service)
        return hmac.digest(key, text.encode(), hashlib.sha256).hex()

    def _scope(self, credential: str) -> _Scope:
        parts = credential.split("/")
        if len(parts) != 5 or parts[4] != "aws4_request":
            raise SignatureRefused(
                "AuthorizationHeaderMalformed",
                "Credential should be <access key>/<yyyymmdd>/<region>/<service>/aws4_request.",
            )
        scope = _Scope(*parts[:4])
        if not hmac.compare_digest(scope.access_key.encode(), self._access_key.encode()):
            raise SignatureRefused("InvalidAccessKeyId", "The access key is not the one in use here.")
        if self._services is not None and scope.service not in self._services:
            raise SignatureRefused("AccessDenied", f"There is no service {scope.service!r} here.")
        return scope

    def _check_lifetime(self, start: datetime, seconds: str) -> None:
        if (
            not re.fullmatch(r"[0-9]{1,6}", seconds)
            or not timedelta() < (lifetime := timedelta(seconds=int(seconds))) <= LONGEST_PRESIGN
        ):
            raise SignatureRefused("AuthorizationQueryParametersError", "X-Amz-Expires should be 1 to 604800.")
        if self._clock() < start - CLOCK_SKEW:
            raise SignatureRefused("AccessDenied", "The request is not valid yet.")
        if self._clock() > start + lifetime:
            raise SignatureRefused("AccessDenied", "Request has expired")


@lru_cache(maxsize=64)
def _signing_key(secret: str, *scope: str) -> bytes:
    """Return the key for a date, a region and a service."""
    key = f"AWS4{secret}".encode()
    for part in (*scope, "aws4_request"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    return key


def _canonical(method: str, path: str, query: str, signed: Mapping[str, str], payload: str) -> str:
    """Return the canonical request that is signed."""
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&")) if query else []
    names = sorted(signed)
    return "\n".join(
        [
            method.upper(),
            path,
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(signed[name].split())}" for name in names),
            "",
            ";".join(names),
            payload,
        ]
    )


def _signed_headers(request: ReceivedRequest, names: str, *, required: set[str]) -> dict[str, str]:
    """Return the headers that are signed. Every `x-amz-*` header has to be, as in S3."""
    listed = names.split(";")
    if unsigned := sorted(required - set(listed)):
        raise SignatureRefused("AccessDenied", f"The header `{unsigned[0]}` has to be signed.")
    for name, _ in request.headers:
        if name.startswith("x-amz-") and name not in listed:
            raise SignatureRefused("AccessDenied", f"The header `{name}` was sent but is not signed.")
    return {name: request.header(name) or "" for name in listed}


def _presign_parameters(request: ReceivedRequest) -> dict[str, str]:
    query = request.query()
    found = {}
    for name in _PRESIGN_PARAMETERS:
        values = [value for parameter, value in query if parameter == f"X-Amz-{name}"]
        if len(values) != 1:
            raise SignatureRefused("AuthorizationQueryParametersError", f"X-Amz-{name} should be given once.")
        found[name] = values[0]
    return found


def _check_target(request: ReceivedRequest) -> None:
    if not _TARGET.fullmatch(request.target):
        raise SignatureRefused("InvalidURI", "The request target is not a percent-encoded path and query.")


def _check_algorithm(algorithm: str) -> None:
    if algorithm != ALGORITHM:
        raise SignatureRefused("InvalidArgument", f"The only algorithm that is supported is {ALGORITHM}.")


def _parse_date(date: str, scope: _Scope) -> datetime:
    try:
        parsed = datetime.fromisoformat(date) if _DATE.fullmatch(date) else None
    except ValueError:
        parsed = None
    if parsed is None:
        raise SignatureRefused("AccessDenied", "`X-Amz-Date` should be given as yyyymmddThhmmssZ.")
    if date[:8] != scope.date:
        raise SignatureRefused("AccessDenied", "The date of Credential is not that of `X-Amz-Date`.")
    return parsed


def _compare(expected: str, given: str) -> None:
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise SignatureRefused("SignatureDoesNotMatch", "The signature is not valid for this request.")
