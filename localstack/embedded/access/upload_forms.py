"""Presigned upload forms (`POST` of `multipart/form-data` to a bucket), parsed before ministack reads them.

ministack does not verify the signature of a form, and accepts unsigned ones.  It receives a rewritten form with
exactly the verified fields, so that it can't parse a form other than the one that was verified.
"""

import json
import secrets
from base64 import b64decode
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser

from pipeline.access.received_request import ReceivedRequest, SignatureRefused, is_presigned

FIELDS_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class FormHead:
    """The fields of a form that precede its file.

    Parameters
    ----------
    fields
        By their names in lower case.
    file_start
        Where the file's content starts in the body.
    """

    fields: dict[str, str]
    file_start: int


def boundary_of(request: ReceivedRequest) -> bytes | None:
    """Return the boundary between the parts of an upload form; None if the request is not one."""
    if request.method != "POST" or is_presigned(request) or request.header("authorization") is not None:
        return None
    message = Message()
    message["Content-Type"] = next((value for name, value in request.headers if name == "content-type"), "")
    boundary = message.get_param("boundary")
    is_form = message.get_content_type() == "multipart/form-data" and isinstance(boundary, str)
    return str(boundary).encode() if is_form else None


def parse_head(body: bytes, boundary: bytes) -> FormHead | None:
    """Return the head of a form; None if more of the body is needed.

    Raises
    ------
    SignatureRefused
        It is not a form, has a duplicate field, no file, or too many fields.
    """
    delimiter = b"--" + boundary
    fields: dict[str, str] = {}
    position = 0
    while (head_end := body.find(b"\r\n\r\n", position)) >= 0:
        if body[position : position + len(delimiter) + 2] != delimiter + b"\r\n":
            raise _malformed("it has no file, or is not well-formed")
        name = _name_of(body[position + len(delimiter) + 2 : head_end])
        if name == "file":
            return FormHead(fields, head_end + 4)
        if name in fields:
            raise _malformed(f"it has the field {name} twice")
        value_end = body.find(b"\r\n" + delimiter, head_end + 4)
        if value_end < 0:
            break
        fields[name] = body[head_end + 4 : value_end].decode("utf-8", errors="replace")
        position = value_end + 2
    if len(body) > FIELDS_MAX_BYTES:
        raise _malformed(f"its fields in front of the file have more than {FIELDS_MAX_BYTES} bytes")
    return None


def largest_file(fields: dict[str, str]) -> int | None:
    """Return the maximum size of the file under a form's policy, in bytes; None if it sets no limit."""
    try:
        conditions = json.loads(b64decode(fields["policy"], validate=True))["conditions"]
        limits = [int(one[2]) for one in conditions if isinstance(one, list) and one[0] == "content-length-range"]
    except (ValueError, KeyError, TypeError, IndexError):
        raise _malformed("its policy can't be read") from None
    return min(limits, default=None)


def rewritten(head: FormHead, body: bytes, boundary: bytes) -> tuple[str, bytes]:
    """Return the content type and body of a form with the same fields and file, and nothing else."""
    file_end = body.find(b"\r\n--" + boundary, head.file_start - 2)
    if file_end < 0:
        raise _malformed("its file has no end")
    content = body[head.file_start : file_end]
    new = secrets.token_hex(16)
    parts = [
        f'--{new}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in head.fields.items()
    ]
    file_head = f'--{new}\r\nContent-Disposition: form-data; name="file"; filename="upload"\r\n\r\n'.encode()
    return f"multipart/form-data; boundary={new}", b"".join(
        [*parts, file_head, content, f"\r\n--{new}--\r\n".encode()]
    )


def _name_of(headers: bytes) -> str:
    disposition = BytesHeaderParser().parsebytes(headers)
    name = disposition.get_param("name", header="content-disposition")
    if not isinstance(name, str) or not name or not name.replace("-", "").replace("_", "").isalnum():
        raise _malformed("a part has no name, or one with odd characters")
    return name.lower()


def _malformed(reason: str) -> SignatureRefused:
    return SignatureRefused("MalformedPOSTRequest", f"The form can't be used: {reason}.")
