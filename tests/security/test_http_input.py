"""Requests that are ambiguous, truncated or expensive to parse are rejected."""

import json
import re
import time
from typing import Any

import httpx
import pytest

from functions.http.application import create_app
from pipeline.settings import Settings
from tests.support.api import api, fields, problem
from tests.support.fake_service import FakeService

JSON = {"Content-Type": "application/json"}
BOUNDARY = "b"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, value: str, filename: str = "") -> bytes:
    file = f'; filename="{filename}"' if filename else ""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n{value}\r\n'.encode()


END = f"--{BOUNDARY}--\r\n".encode()


async def post(path: str, content: bytes, headers: dict[str, str]) -> httpx.Response:
    async with api(FakeService()) as client:
        return await client.post(path, content=content, headers=headers)


@pytest.mark.parametrize("path", ["/voices", "/uploads"])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"name": "Nov\xe4"}', "UTF-8"),
        ('{"name": "Nova"}'.encode("utf-16"), "UTF-8"),
        (b'{"name": "\xed\xa0\x80"}', "UTF-8"),
        (b'{"name": "Nova", "name": "Eve"}', "'name' twice"),
        (b'{"a": {"\\ud800": 1, "\\ud800": 2}}', "twice"),
        (b'{"name": NaN}', "no NaN"),
        (b'{"name": "Nova"', "is cut"),
        (b'{"name": "Nov', "is cut"),
        (b"{'name': 'Nova'}", "Line 1, column 2"),
        (b"[" * 50_000, "too deeply"),
        (b"1" * 50_000, "JSON"),
    ],
)
async def test_invalid_json_returns_400(path: str, body: bytes, reason: str) -> None:
    error = problem(await post(path, body, JSON), 400, "bad_request")
    assert reason in error["error"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (part("response_text", "Hello.") + part("response_text", "Bye.") + END, "'response_text' occurs 2 times"),
        (part("audio", "RIFF", "a.wav") + part("audio", "RIFF", "b.wav") + END, "files"),
        (part("session_id", "1") + part("session_id", "RIFF", "b.wav") + END, "'session_id' occurs 2 times"),
        (part("audio", "RIFF", "a.wav") + part("response_text", "Hello."), "truncated"),
        (part("response_text", "Hello.")[:-4], "truncated"),
        (part("audio", "RIFF" * 10, "a.wav")[:-4], "truncated"),
        (b"", "truncated"),
        (part("x", "1", "x.wav") * 1000 + END, "files"),
        (b"".join(part(f"x{n}", "1") for n in range(1000)) + END, "fields"),
    ],
)
@pytest.mark.parametrize("path", ["/preview", "/upload"])
async def test_invalid_multipart_returns_400(path: str, body: bytes, reason: str) -> None:
    error = problem(await post(path, body, FORM), 400, "bad_request")
    assert reason in error["error"]


async def test_urlencoded_duplicate_field() -> None:
    body = b"voice_id=nova&response_text=a&voice_id=eve"
    response = await post("/preview-from-voice", body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert "'voice_id' occurs 2 times" in problem(response, 400)["error"]


async def test_form_charset_must_be_utf8() -> None:
    """Python's `punycode` codec takes minutes for a megabyte."""
    began = time.process_time()
    body = part("response_text", "zz" * 50_000) + END
    response = await post("/preview", body, {"Content-Type": FORM["Content-Type"] + "; charset=punycode"})
    assert "UTF-8" in problem(response, 400)["error"]
    assert time.process_time() - began < 1


def json_routes() -> list[tuple[str, str, list[str]]]:
    """Return method, path and field names of all routes with a JSON body."""
    description = create_app(Settings()).openapi()
    found = []
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if schema:
                (reference,) = re.findall(r"#/components/schemas/([^\"']+)", json.dumps(schema))
                names = [*description["components"]["schemas"][reference]["properties"]]
                found.append((method, re.sub(r"{.*?}", "x", path), names))
    return found


JSON_ROUTES = json_routes()
DEEP = "[" * 900 + "]" * 900


@pytest.mark.parametrize(("method", "path", "names"), JSON_ROUTES, ids=[path for _, path, _ in JSON_ROUTES])
async def test_unusable_json_values_return_422(method: str, path: str, names: list[str]) -> None:
    """A lone surrogate or deep nesting, in known and unknown fields."""
    async with api(FakeService()) as client:
        for value in (r'"\ud800"', r'["\udfff"]', r'{"a": "\ud800"}', r'{"\ud800": 1}', DEEP, '{"a":' + DEEP + "}"):
            for name in (*names, "unknown"):
                content = f'{{"{name}": {value}}}'
                response = await client.request(method, path, content=content, headers=JSON)
                assert response.status_code == 422, (name, value[:20], response.text)
                assert name in response.text
        for content in (r'{"\udfff": 1}', json.dumps({f"x{number}": 1 for number in range(5_000)})):
            response = await client.request(method, path, content=content, headers=JSON)
            assert response.status_code == 422
            assert len(response.content) < 1000


@pytest.mark.parametrize(("method", "path", "names"), JSON_ROUTES, ids=[path for _, path, _ in JSON_ROUTES])
async def test_json_type_errors_name_the_field(method: str, path: str, names: list[str]) -> None:
    """The messages contain the client's field, and nothing of the validator."""
    async with api(FakeService()) as client:
        for name in names:
            for value in (5, 1.5, True, "x" * 5000, [], ["a"], {}, {"id": 5}, {"id": None}):
                response = await client.request(method, path, json={name: value})
                if response.status_code != 422:
                    continue
                body = response.json()
                message = body["error"]["message"] if path.startswith("/v1/") else body["error"]
                assert not re.search(r"function-|after\[|validat|Input should|unable to parse|\.str\b", message), (
                    message
                )
                named = {part.split()[0] for part in re.split(r"; ", message.rstrip("."))}
                assert named <= {*names, "The", "Give", "There", "it"}, message


@pytest.mark.parametrize("path", ["/preview", "/preview-from-voice", "/upload", "/v1/audio/voices"])
async def test_urlencoded_limits(path: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for content, status in (
        (b"&" * 1_000_000, 413),
        (b"a" * 1_000_000, 413),
        (b"&" * 100_000, 400),
        (b"a=1&" * 33, 400),
        (b"a=%ff", 400),
        (b"a=\xff", 400),
    ):
        assert (await post(path, content, form)).status_code == status


@pytest.mark.parametrize("path", ["/voices", "/uploads"])
async def test_unknown_json_field_returns_422(path: str) -> None:
    body = b'{"session_id": "x", "name": "Nova", "descripton": "calm"}'
    assert "descripton" in fields(problem(await post(path, body, JSON), 422, "invalid_input"))


@pytest.mark.parametrize(
    "description", ["a\x00b", "a\nb", "\u202egnp.exe", "\u2066isolated", "a\u200fb", "a\u2028b", "no\ufeffva"]
)
async def test_description_control_characters(description: str) -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        body = {"session_id": await fakes.session(), "name": "Nova", "description": description}
        error = problem(await client.post("/voices", json=body), 422, "invalid_input")
    assert fields(error) == ["description"]
    assert "control" in error["error"]


@pytest.mark.parametrize("name", ["Authorization", "Content-Type"])
async def test_duplicate_header_returns_400(name: str) -> None:
    async with api(FakeService(Settings(auth="keys"))) as client:
        response = await client.get("/voices", headers=[(name, "Bearer a"), (name, "Bearer b")])
    assert name in problem(response, 400, "bad_request")["error"]


@pytest.mark.parametrize("path", ["/voices/", "/docs/", "/jobs/1/", "/voices/nova/"])
async def test_trailing_slash_does_not_redirect(path: str) -> None:
    async with api(FakeService()) as client:
        response = await client.get(path, headers={"Host": "evil.example"})
    assert (response.status_code, "location" in response.headers) == (404, False)


@pytest.mark.parametrize("if_range", ['"\x7f', '"', '"a"b"', '"a', '"' + "a" * 5000 + '"', '"\x01"'])
async def test_invalid_if_range_returns_422(if_range: str) -> None:
    fakes = FakeService()
    job_id = fakes.resources.new_id()
    async with api(fakes) as client:
        headers: Any = {"Range": "bytes=0-1", "If-Range": if_range}
        response = await client.get(f"/previews/{job_id}.wav", headers=headers)
    assert fields(problem(response, 422, "invalid_input")) == ["if-range"]
