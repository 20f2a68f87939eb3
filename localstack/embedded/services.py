"""S3 and SQS of ministack, for verified requests.

ministack's own application first looks for the service of a request, among 80, which takes longer than most calls.
"""

import json
import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

from ministack.app import _asgi_header_list, _decode_aws_chunked_body, _IncompleteRequestBody
from ministack.app import app as all_services
from ministack.core.responses import new_uuid, set_request_region
from ministack.core.router import extract_region
from ministack.core.sigv4 import decode_header_value
from ministack.services import s3, sqs

from embedded.access.verification import SERVICE
from embedded.asgi import Message, Receive, Send

Headers = dict[str, str]
Response = tuple[int, dict[str, Any], bytes]

log = logging.getLogger("ministack")


async def serve(scope: Message, receive: Receive, send: Send) -> None:
    """Serve a request to S3 or SQS; `scope[SERVICE]` says which."""
    if scope["type"] != "http":
        await all_services(scope, receive, send)
        return
    service, headers = scope[SERVICE], _headers(scope["headers"])
    query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
    set_request_region(extract_region(headers, query))
    body = (await receive())["body"]
    try:
        answer = await (_s3 if service == "s3" else _sqs)(scope["method"], scope["path"], headers, body, query)
    except Exception as error:
        log.exception("a request to %s failed", service)
        failure = json.dumps({"__type": "InternalError", "message": str(error)}).encode()
        answer = 500, {"Content-Type": "application/json"}, failure
    status, answered, content = answer
    await send({"type": "http.response.start", "status": status, "headers": _asgi_header_list(answered)})
    await send({"type": "http.response.body", "body": content})


async def _s3(method: str, path: str, headers: Headers, body: bytes, query: dict[str, list[str]]) -> Response:
    try:
        body = _decode_aws_chunked_body(body, headers)
    except _IncompleteRequestBody:
        answer: Response = s3._error("IncompleteBody", "The body is shorter than its declared length.", 400)
    else:
        answer = await s3.handle_request(method, path, headers, body, query)
    if method == "HEAD" and s3.is_standard_object_request(method, path, headers, query):
        return s3.format_head_response(path, headers, answer)  # type: ignore[no-any-return]
    return _with_length(*answer)


async def _sqs(method: str, path: str, headers: Headers, body: bytes, query: dict[str, list[str]]) -> Response:
    status, answered, content = await sqs.handle_request(method, path, headers, body, query)
    return _with_length(status, answered | {"x-amzn-requestid": new_uuid()}, content)


def _with_length(status: int, headers: dict[str, Any], body: bytes | str) -> Response:
    content = body if isinstance(body, bytes) else body.encode()
    if not any(name.lower() == "content-length" for name in headers):
        headers["Content-Length"] = str(len(content))
    return status, headers, content


def _headers(received: Sequence[tuple[bytes, bytes]]) -> Headers:
    """Return headers by their names in lower case; the values of a repeated one are joined."""
    headers: Headers = {}
    for name, value in received:
        key, text = name.decode("latin-1").lower(), decode_header_value(value)
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers
