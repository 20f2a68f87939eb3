"""Links that the API serves itself, for clients that can't reach the storage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

import httpx
import pytest

from functions.http.application import create_app, serve_with
from pipeline.audio.reference_audio import encode_wav
from pipeline.clients.presigned_urls import PathSigner
from pipeline.contract import layout
from pipeline.domain import presigned_urls
from pipeline.settings import Settings
from tests.support.api import problem
from tests.support.fake_service import FakeService, reference_recording

SETTINGS = Settings(host="0.0.0.0", auth="none", aws_endpoint_url="http://127.0.0.1:4566")
WAV = encode_wav(reference_recording())
BASE = "http://studio.lan:8000"


@asynccontextmanager
async def api(fakes: FakeService) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(SETTINGS)
    serve_with(app, replace(fakes.resources, path_signer=PathSigner("secret", fakes.time)))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        yield client


@pytest.mark.parametrize(
    ("host", "endpoint", "serves"),
    [
        ("0.0.0.0", "http://127.0.0.1:4566", True),
        ("::", "http://localhost:4566", True),
        ("127.0.0.1", "http://127.0.0.1:4566", False),
        ("0.0.0.0", "http://10.0.0.5:9000", False),
        ("0.0.0.0", None, False),
    ],
)
def test_api_serves_links_for_loopback_storage(host: str, endpoint: str | None, serves: bool) -> None:
    assert Settings(host=host, aws_endpoint_url=endpoint).serves_links is serves


async def test_signed_link_uses_client_address() -> None:
    fakes = FakeService(SETTINGS)
    request = await fakes.job()
    await fakes.succeed(request)
    async with api(fakes) as client:
        url = (await client.get(f"/jobs/{request.job_id}?signed=1")).json()["signed_url"]
        assert url.startswith(BASE)
        answer = await client.get(url)
        assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"RIFF", "audio/wav")
        part = await client.get(url, headers={"Range": "bytes=1-2"})
        assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"IF", "bytes 1-2/4")
        assert (await client.get(url, headers={"Range": "bytes=9-"})).status_code == 416
        assert (await client.get(url, headers={"Range": "bytes=1-2", "If-Range": '"x"'})).status_code == 200
        redirected = await client.get(f"/previews/{request.job_id}.wav?signed=1")
        assert redirected.status_code == 303
        assert (await client.get(redirected.headers["location"])).content == b"RIFF"


async def test_signed_link_scope_and_expiry() -> None:
    fakes = FakeService(SETTINGS)
    request, other = await fakes.job(), await fakes.job()
    for made in (request, other):
        await fakes.succeed(made)
    async with api(fakes) as client:
        url = (await client.get(f"/jobs/{request.job_id}?signed=1")).json()["signed_url"]
        problem(await client.get(url.replace(request.job_id, other.job_id)), 403, "forbidden")
        problem(await client.get(url.replace("expires=", "expires=1")), 403, "forbidden")
        problem(await client.get(url[:-1] + ("0" if url[-1] != "0" else "1")), 403, "forbidden")
        problem(await client.get(urlsplit(url).path), 422)
        fakes.advance(minutes=20)
        problem(await client.get(url), 410, "expired")


async def test_upload_form_uses_client_address() -> None:
    fakes = FakeService(SETTINGS)
    async with api(fakes) as client:
        form = (await client.post("/uploads", json={"transcription": "What I say."})).json()
        assert form["url"].startswith(BASE)
        posted = await client.post(form["url"], data=form["fields"], files={"file": ("a.wav", WAV)})
        assert posted.status_code == 204
        assert fakes.bucket.objects[layout.session(form["session_id"]).unchecked_audio].body == WAV
        saved = await client.post("/voices", json={"session_id": form["session_id"], "name": "Nova"})
        assert saved.status_code == 201


async def test_upload_form_scope_size_and_expiry() -> None:
    fakes = FakeService(SETTINGS)
    async with api(fakes) as client:
        form, other = [(await client.post("/uploads")).json() for _ in range(2)]
        files = {"file": ("a.wav", WAV)}
        foreign = form["url"].replace(form["session_id"], other["session_id"])
        problem(await client.post(foreign, files=files), 403, "forbidden")
        large = {"file": ("a.wav", b"x" * (SETTINGS.reference_max_bytes + 1))}
        problem(await client.post(form["url"], files=large), 413, "too_large")
        fakes.advance(minutes=61)
        problem(await client.post(form["url"], files=files), 410, "expired")
    assert not [key for key in fakes.bucket.objects if key.endswith("unchecked")]


async def test_no_signed_paths_with_reachable_storage() -> None:
    app = create_app(Settings())
    serve_with(app, FakeService().resources)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        problem(await client.get("/signed/previews/x.wav?expires=1&signature=x"), 404)


async def test_pushed_link_uses_websocket_address() -> None:
    fakes = FakeService(SETTINGS)
    resources = replace(fakes.resources, path_signer=PathSigner("secret", fakes.time))
    outcome = await fakes.succeed(await fakes.job())
    url = await presigned_urls.signed_url(resources, outcome, f"{BASE}/")
    async with api(fakes) as client:
        assert url is not None
        assert (await client.get(url)).content == b"RIFF"


def test_signature_depends_on_credentials() -> None:
    fakes = FakeService()
    one, other = (PathSigner(secret, fakes.time).sign("/x", fakes.time()) for secret in ("a", "b"))
    assert one != other
