"""Security headers of all responses."""

import re

import httpx
import pytest

from functions.http.application import create_app, serve_with
from functions.http.middleware.security_headers import HEADERS
from functions.http.pages.docs_page import POLICY, page
from pipeline.settings import Settings
from tests.support.fake_service import FakeService

SETTINGS = Settings(cors_origins="https://studio.example")
ALL = [
    ("GET", "/health", 200),
    ("GET", "/voices", 200),
    ("POST", "/uploads", 201),
    ("GET", "/openapi.json", 200),
    ("GET", "/docs", 200),
    ("GET", "/docs/start.js", 200),
    ("GET", "/docs/assets/swagger-ui.css", 200),
    ("GET", "/docs/assets/nothing.css", 404),
    ("GET", "/docs/assets/%2e%2e/core.py", 404),
    ("GET", "/nowhere", 404),
    ("GET", "/voices/", 404),
    ("PUT", "/voices", 405),
    ("POST", "/preview", 422),
    ("GET", "/voices/BROKEN", 500),
]


def client_of(fakes: FakeService) -> httpx.AsyncClient:
    app = create_app(fakes.resources.settings)
    serve_with(app, fakes.resources)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def answer_of(method: str, path: str, **headers: str) -> httpx.Response:
    fakes = FakeService(SETTINGS)
    if "BROKEN" in path:
        fakes.fail_after(0, ZeroDivisionError)
    async with client_of(fakes) as client:
        return await client.request(method, path.lower(), headers=headers)


@pytest.mark.parametrize(("method", "path", "status"), ALL)
async def test_all_responses_have_headers(method: str, path: str, status: int) -> None:
    answer = await answer_of(method, path)
    assert answer.status_code == status
    expected = dict(HEADERS) | ({"Content-Security-Policy": POLICY} if path == "/docs" else {})
    assert {name: answer.headers.get_list(name) for name in HEADERS} == {n: [v] for n, v in expected.items()}
    assert "server" not in answer.headers


async def test_middleware_responses_have_headers() -> None:
    too_large = await answer_of("POST", "/voices", **{"content-length": "999999999"})
    foreign = await answer_of("POST", "/voices", origin="https://evil.example")
    asked = {"access-control-request-method": "POST"}
    preflight = await answer_of("OPTIONS", "/voices", origin="https://studio.example", **asked)
    for answer, status in ((too_large, 413), (foreign, 403), (preflight, 200)):
        assert answer.status_code == status
        assert set(HEADERS.items()) <= {(n.title(), v) for n, v in answer.headers.items()}
        assert answer.headers["x-correlation-id"]


def test_page_has_no_inline_scripts() -> None:
    assert "unsafe" not in POLICY
    assert "http" not in POLICY
    assert re.findall(r"<script[^>]*>(.+?)</script>|<style| style=| on\w+=|javascript:", page()) == []
    assert not re.findall(r'(?:src|href)="(?!docs/|studio/|\./|openapi|asyncapi)', page())
