"""Errors as problem responses."""

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from functions.http.responses.problems import install
from functions.previews.requests import WholeText
from pipeline.errors import Misconfigured
from tests.support.api import api, fields, problem
from tests.support.fake_service import FakeService


async def test_misconfiguration_has_no_retry_after() -> None:
    fakes = FakeService()
    fakes.fail_after(0, Misconfigured)
    async with api(fakes) as client:
        body = problem(answer := await client.get("/voices"), 500, "misconfigured")
    assert "misconfigured" in body["error"]
    assert "simulated failure" not in body["error"]
    assert "retry-after" not in answer.headers


async def test_all_invalid_fields_named() -> None:
    async with api(FakeService()) as client:
        body = problem(await client.post("/preview-from-voice", data={}), 422, "invalid_input")
    assert fields(body) == ["voice_id", "response_text"]


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/voices"),
        ("GET", "/voices/nova"),
        ("DELETE", "/voices/nova"),
        ("POST", "/uploads"),
        ("GET", "/jobs/JOB"),
        ("GET", "/previews/JOB.wav"),
    ],
)
async def test_storage_outage_returns_503(method: str, url: str) -> None:
    fakes = FakeService()
    for bucket in (fakes.bucket, fakes.voices):
        bucket.switch.is_up = False
    async with api(fakes) as client:
        answer = await client.request(method, url.replace("JOB", fakes.resources.new_id()))
    problem(answer, 503, "unavailable")


async def test_unexpected_error_returns_problem(caplog: pytest.LogCaptureFixture) -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        fakes.fail_after(0, ZeroDivisionError)
        answer = await client.get("/voices", headers={"X-Correlation-Id": "corr-1"})
    body = problem(answer, 500, "internal_error")
    assert answer.headers["x-correlation-id"] == "corr-1"
    assert "simulated failure" not in body["error"]


async def test_wrong_method_lists_allowed() -> None:
    async with api(FakeService()) as client:
        for url, methods in [
            ("/voices", "GET, HEAD, POST"),
            ("/voices/nova", "DELETE, GET, HEAD, PATCH"),
            ("/previews/x.wav", "GET, HEAD"),
        ]:
            assert (await client.put(url)).headers["allow"] == methods


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/health", 405),
        ("PUT", "/voices", 405),
        ("GET", "/preview", 405),
        ("GET", "/jobs/", 404),
        ("GET", "/jobs/nonsense", 404),
        ("GET", "/voices/%00", 404),
        ("GET", "/voices/" + "a" * 5000, 404),
    ],
)
async def test_unknown_route(method: str, url: str, status: int) -> None:
    async with api(FakeService()) as client:
        answer = await client.request(method, url)
    assert len(problem(answer, status)["error"]) < 300
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize(
    ("path", "form", "message"),
    [
        ("/preview", {"audio": "not a file", "response_text": "Hello."}, "audio should be a file."),
        ("/preview", {"session_id": "x"}, "response_text is required."),
        ("/voices?limit=many", None, "limit should be a whole number."),
        ("/voices?limit=0", None, "limit should be greater than or equal to 1."),
        ("/jobs/x?signed=perhaps", None, "signed should be true or false."),
    ],
)
async def test_validation_messages(path: str, form: dict[str, str] | None, message: str) -> None:
    async with api(FakeService()) as client:
        answer = await (client.get(path) if form is None else client.post(path, data=form))
    assert problem(answer, 422, "invalid_input")["error"] == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "body should be a JSON object."),
        ({"session_id": 1, "name": "Nova"}, "session_id should be a string."),
        ({"session_id": "x", "name": None}, "name should be a string."),
    ],
)
async def test_validation_messages_of_json(body: object, message: str) -> None:
    async with api(FakeService()) as client:
        answer = await client.post("/voices", json=body)
    assert problem(answer, 422, "invalid_input")["error"] == message


class Item(BaseModel):
    """A body with a union, whose alternatives have validators."""

    name: WholeText | int
    parts: list[int | WholeText] = []


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"name": None}, "name", "name should be a string or a whole number."),
        ({"name": "x", "parts": [1, None]}, "parts.1", "parts.1 should be a whole number or a string."),
        ({"parts": []}, "name", "name is required."),
    ],
)
async def test_union_errors_have_one_field(body: dict[str, object], field: str, message: str) -> None:
    app = FastAPI()
    install(app)

    @app.post("/items")
    async def create_item(item: Item) -> None: ...

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = (await client.post("/items", json=body)).json()
    assert fields(answer) == [field]
    assert answer["error"] == message
