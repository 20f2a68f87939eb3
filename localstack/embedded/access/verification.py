"""ASGI middleware in front of ministack, which itself does not authorize requests.

Only requests that are signed with our credentials are accepted, and only to the services in use.  A host
name that is not loopback's is refused (DNS rebinding).  Pages of other origins get CORS headers only if the
settings name the origin, and only for presigned requests.
"""

import asyncio
import json
import re
from collections.abc import Callable
from xml.sax.saxutils import escape

from embedded.access import upload_forms
from embedded.access.cors import CorsPolicy, without_wildcard
from embedded.asgi import (
    App,
    BodyTooLarge,
    BodyTooSlow,
    Budget,
    ClientDisconnected,
    Message,
    Receive,
    RequestBody,
    Send,
    TooManyBytes,
    replaying,
)
from pipeline.access.received_request import (
    ReceivedRequest,
    SignatureRefused,
    check_loopback_host,
    check_payload,
    declared_payload,
    is_presigned,
)
from pipeline.access.request_signatures import SignatureVerifier

# Of a body whose signature can't be checked before it is read.  SQS messages have at most 1 MiB.
UNVERIFIED_MAX_BYTES = 8 * 1024 * 1024
ALL_UNVERIFIED_MAX_BYTES = 32 * 1024 * 1024
UNVERIFIED_SECONDS = 10.0
PAUSE_SECONDS = 30.0  # between two parts of a body

SERVICE = "aws_service"  # the key in the scope of a verified request

_PATHS = {
    # `/health` is ministack's own.
    "s3": re.compile(r"/|/(?!health$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", re.DOTALL),
    "sqs": re.compile(r"/|/[0-9]{12}/[A-Za-z0-9_-]{1,80}(\.fifo)?/?"),
    "execute-api": re.compile(r"/_aws/execute-api/.*", re.DOTALL),
}
_OTHER_PATHS = re.compile(r"/([^_].*)?", re.DOTALL)  # all but ministack's own
_REPLACED_HEADERS = (b"content-type", b"content-length", b"transfer-encoding")


class RequestTimeout(SignatureRefused):
    """The body was not received in time."""

    status = 400


class SlowDown(SignatureRefused):
    """The server receives too much at the moment; clients retry."""

    status = 503


class VerifiedRequests:
    """The middleware.

    Parameters
    ----------
    app
        The application behind it.
    verifier
        Verifies signatures, with the credentials and the services.
    cors
        The origins whose pages may use presigned requests.
    is_public
        Returns whether a path is served without a signature.
    """

    def __init__(
        self,
        app: App,
        verifier: SignatureVerifier,
        cors: CorsPolicy,
        is_public: Callable[[str], bool] = lambda _path: False,
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._cors = cors
        self._is_public = is_public
        self._unverified = Budget(ALL_UNVERIFIED_MAX_BYTES)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request = ReceivedRequest.from_scope(scope)
        try:
            check_loopback_host(request)
            if self._is_public(scope["path"]):
                await self._app(scope, receive, without_wildcard(send))
            elif scope["type"] == "websocket":
                await _close(receive, send)
            else:
                await self._serve_signed(scope, request, receive, self._cors.applied(request, send))
        except SignatureRefused as error:
            if scope["type"] == "websocket":
                await _close(receive, send)
            else:
                await _send_error(request, error, send)
        except ClientDisconnected:
            return

    async def _serve_signed(self, scope: Message, request: ReceivedRequest, receive: Receive, send: Send) -> None:
        if request.method == "OPTIONS":
            await _send(send, 204, self._cors.preflight_headers(request))
            return
        try:
            verified, body = await self._verified(scope, request, RequestBody(scope, receive, PAUSE_SECONDS))
        except BodyTooLarge:
            raise SignatureRefused("EntityTooLarge", "The body is larger than it may be.") from None
        except (BodyTooSlow, TimeoutError):
            raise RequestTimeout("RequestTimeout", "The body was not received in time.") from None
        except TooManyBytes:
            raise SlowDown("SlowDown", "Too many requests are being received; try again.") from None
        await self._app(verified, replaying(body, receive), send)

    async def _verified(self, scope: Message, request: ReceivedRequest, body: RequestBody) -> tuple[Message, bytes]:
        """Return the verified request; a signature over a declared hash is checked before reading the body."""
        boundary = upload_forms.boundary_of(request)
        if boundary is not None:
            return await self._verified_form(scope, boundary, body)
        if is_presigned(request) or declared_payload(request) is not None:
            service = self._verifier.verify(request)
            _check_path(service, scope["path"])
            content = await body.rest()
            check_payload(declared_payload(request), content)
        else:
            header = self._verifier.check_header(request)
            async with asyncio.timeout(UNVERIFIED_SECONDS):
                content = await body.rest(UNVERIFIED_MAX_BYTES, self._unverified)
            service = self._verifier.verify(request, content, header)
            _check_path(service, scope["path"])
        return scope | {SERVICE: service}, content

    async def _verified_form(self, scope: Message, boundary: bytes, body: RequestBody) -> tuple[Message, bytes]:
        if scope["query_string"]:
            raise SignatureRefused("AccessDenied", "A form is posted to a bucket, without a query.")
        _check_path("s3", scope["path"])
        content = b""
        async with asyncio.timeout(UNVERIFIED_SECONDS):
            while (head := upload_forms.parse_head(content, boundary)) is None:
                part = await body.next_part()
                if part is None:
                    raise SignatureRefused("MalformedPOSTRequest", "The form ends before its file.")
                content += part
        self._verifier.verify_post_policy(head.fields)
        limit = upload_forms.largest_file(head.fields)
        content += await body.rest(None if limit is None else limit + upload_forms.FIELDS_MAX_BYTES)
        content_type, content = upload_forms.rewritten(head, content, boundary)
        headers = [
            *((name, value) for name, value in scope["headers"] if name.lower() not in _REPLACED_HEADERS),
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(content)).encode()),
        ]
        return scope | {SERVICE: "s3", "headers": headers}, content


def _check_path(service: str, path: str) -> None:
    """Refuse a path that ministack would route to a service other than the signed one."""
    if not _PATHS.get(service, _OTHER_PATHS).fullmatch(path):
        raise SignatureRefused("AccessDenied", f"This is no path of {service}.")


async def _send_error(request: ReceivedRequest, error: SignatureRefused, send: Send) -> None:
    """Send an error in the AWS protocol of the request: JSON to JSON clients, else the XML of S3."""
    content_type = next((value for name, value in request.headers if name == "content-type"), "")
    if "json" in content_type:
        body = json.dumps({"__type": error.code, "message": error.message})
        kind = "application/x-amz-json-1.0"
    else:
        code, message = escape(error.code), escape(error.message)
        body = f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
        kind = "application/xml"
    headers = [
        (b"content-type", kind.encode()),
        (b"x-amzn-errortype", error.code.encode()),
        (b"connection", b"close"),
    ]
    await _send(send, error.status, headers, b"" if request.method == "HEAD" else body.encode())


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
    length = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body})


async def _close(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 1008})
