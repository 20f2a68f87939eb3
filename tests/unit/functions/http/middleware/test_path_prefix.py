"""The service under a path prefix."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from functions.http.application import create_app, serve_with
from functions.local.proxy_headers import ProxyHeaders
from pipeline.clients.presigned_urls import PathSigner
from pipeline.contract import layout
from pipeline.domain import voice_changes
from pipeline.settings import Settings
from tests.support.api import RESPOND_ASYNC, complete_job, last_request
from tests.support.fake_service import FakeService

PREFIXED = Settings(root_path="/tts")


@asynccontextmanager
async def api(fakes: FakeService, *, proxy: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the application, behind a proxy with this address if one is given."""
    settings = fakes.resources.settings
    app = create_app(settings)
    if proxy is not None:
        app.add_middleware(ProxyHeaders, trusted_hosts=["10.0.0.1"])
    serve_with(app, replace(fakes.resources, path_signer=PathSigner("secret", fakes.time)))
    transport = httpx.ASGITransport(app, client=(proxy or "127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        yield client


@pytest.mark.parametrize("path", ["/voices", "/tts/voices"])
async def test_prefix_removed_by_proxy_or_not(path: str) -> None:
    async with api(FakeService(PREFIXED)) as client:
        assert (await client.get(path)).status_code == 200
        assert (await client.get("/ttsvoices")).status_code == 404


async def test_prefix_in_job_urls() -> None:
    fakes = FakeService(PREFIXED)
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        accepted = await client.post("/tts/preview", data=form, headers=RESPOND_ASYNC)
        job_id = accepted.headers["x-job-id"]
        assert accepted.headers["location"] == f"/tts/jobs/{job_id}"
        await fakes.succeed(await last_request(fakes))
        job = (await client.get(accepted.headers["location"])).json()
        assert job["audio_url"] == f"/tts/previews/{job_id}.wav"
        assert (await client.get(job["audio_url"])).content == b"RIFF"
        events = (await client.get(f"/tts/jobs/{job_id}/events")).text
        assert f'"audio_url": "/tts/previews/{job_id}.wav"' in events


async def test_prefix_in_preview_headers() -> None:
    fakes = FakeService(PREFIXED)
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        preview = await complete_job(fakes, asyncio.create_task(client.post("/tts/preview", data=form)))
        assert preview.headers["content-location"] == f"/tts/previews/{preview.headers['x-job-id']}.wav"


async def test_prefix_in_voice_location() -> None:
    fakes = FakeService(PREFIXED)
    async with api(fakes) as client:
        body = {"session_id": await fakes.session(), "name": "Nova"}
        assert (await client.post("/voices", json=body)).headers["location"] == "/tts/voices/nova"


async def test_prefix_in_signed_urls() -> None:
    fakes = FakeService(
        Settings(root_path="/tts", host="0.0.0.0", auth="none", aws_endpoint_url="http://127.0.0.1:1")
    )
    request = await fakes.job()
    await fakes.succeed(request)
    async with api(fakes) as client:
        url = (await client.get(f"/tts/jobs/{request.job_id}?signed=1")).json()["signed_url"]
        assert url.startswith(f"http://host/tts/signed/previews/{request.job_id}.wav?")
        assert (await client.get(url)).content == b"RIFF"
        assert (await client.get(url.replace("/tts/", "/"))).content == b"RIFF"
        upload = (await client.post("/tts/uploads")).json()
        assert upload["url"].startswith("http://host/tts/signed/uploads/")


async def test_docs_load_assets_under_prefix() -> None:
    async with api(FakeService(PREFIXED)) as client:
        page = await client.get("/tts/docs")
        assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(assets) == 10
        for asset in assets:
            url = urljoin("http://host/tts/docs", asset)
            assert urlsplit(url).path.startswith("/tts/")
            assert (await client.get(url)).status_code == 200
        assert 'url: "openapi.json"' in (await client.get("/tts/docs/start.js")).text
        assert (await client.get("/tts/openapi.json")).json()["servers"] == [{"url": "/tts"}]


async def test_prefix_of_trusted_proxy() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.succeed(request)
    async with api(fakes, proxy="10.0.0.1") as client:
        for given, used in [("/a/b", "/a/b"), ("/a/", "/a"), ("//evil.example", ""), ("a", ""), ("/a?x", "")]:
            job = (await client.get(f"/jobs/{request.job_id}", headers={"X-Forwarded-Prefix": given})).json()
            assert job["audio_url"] == f"{used}/previews/{request.job_id}.wav"


async def test_prefix_of_other_client_ignored() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.succeed(request)
    async with api(fakes, proxy="10.0.0.2") as client:
        job = (await client.get(f"/jobs/{request.job_id}", headers={"X-Forwarded-Prefix": "/a"})).json()
        assert job["audio_url"] == layout.audio_url(request.job_id)


async def test_body_limit_and_errors_under_prefix() -> None:
    fakes = FakeService(PREFIXED)
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Nova")
    async with api(fakes) as client:
        large = await client.post("/tts/voices", content=b"x", headers={"content-length": "999999999"})
        assert large.status_code == 413
        missing = await client.get("/tts/v1/models/nothing")
        assert missing.json()["error"]["code"] == "not_found"
        wrong = await client.put("/tts/voices")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, POST")
        assert (await client.head("/tts/voices/nova")).status_code == 200
