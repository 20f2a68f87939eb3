"""The studio page: its files and its Content-Security-Policy."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from functions.http.application import create_app, serve_with
from functions.http.pages import studio_page
from functions.http.pages.studio_page import FILES, LANGUAGES, WAVEFORM_STYLE, content_policy, texts
from pipeline.settings import Settings
from tests.support.fake_service import FakeService

TRANSFERRED_MAX = 150_000  # bytes, compressed


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    fakes = FakeService()
    app = create_app(fakes.resources.settings)
    serve_with(app, fakes.resources)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as made:
        yield made


async def everything(client: httpx.AsyncClient) -> dict[str, httpx.Response]:
    """Fetch the page and all that it names, as a browser would."""
    found: dict[str, httpx.Response] = {}
    wanted = ["http://test/"]
    while wanted:
        url = wanted.pop()
        if url in found:
            continue
        found[url] = await client.get(url)
        if not url.endswith(("/studio/settings.json", ".woff2")):
            wanted += [str(httpx.URL(url).join(name)) for name in _named(found[url])]
    return found


def _named(answer: httpx.Response) -> list[str]:
    kind = answer.headers["content-type"]
    if "javascript" in kind:
        return re.findall(r'(?:from |import\(|URL\()"(\.[^"]+\.js|[a-z-]+\.js)"', answer.text)
    if "css" in kind:
        return re.findall(r'url\("([^"]+)"\)', answer.text)
    return re.findall(r'(?:src|href)="(studio/[^"]+)"', answer.text) if "html" in kind else []


async def test_page_assets_exist(client: httpx.AsyncClient) -> None:
    found = await everything(client)
    assert {url: answer.status_code for url, answer in found.items() if answer.status_code != 200} == {}
    served = {url.split("/", 5)[-1] for url in found}
    files = {str(path.relative_to(FILES)) for path in FILES.rglob("*.js")}
    assert files <= served, "a module that nothing names"


async def test_page_size(client: httpx.AsyncClient) -> None:
    answers = (await everything(client)).values()
    assert sum(int(answer.headers["content-length"]) for answer in answers) < TRANSFERRED_MAX


async def test_versioned_files_cached(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["cache-control"] == "no-cache"
    assert (await client.get("/", headers={"If-None-Match": page.headers["etag"]})).status_code == 304
    path = f"/studio/{studio_page.version()}/script/app.js"
    assert "immutable" in (await client.get(path)).headers["cache-control"]
    other = await client.get("/studio/000000000000/script/app.js")
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-store")


async def test_other_files_not_served(client: httpx.AsyncClient) -> None:
    version = studio_page.version()
    for path in ("index.html", "../http/studio_page.py", "%2e%2e/keys.py", "script", ""):
        answer = await client.get(f"/studio/{version}/{path}")
        assert answer.status_code == 404, path
        assert answer.json()["code"] == "not_found"


async def test_page_loads_own_scripts_only(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    rules = _rules(page.headers["content-security-policy"])
    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == rules["font-src"] == rules["img-src"] == rules["connect-src"] == ["'self'"]
    assert "unsafe" not in str(rules)
    # The texts are data, which browsers do not execute.
    assert not re.search(r"<script(?![^>]*(?:src=|application/json))|<style|\son\w+=|\sstyle=", page.text)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page.text)


def _rules(policy: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (rule.split() for rule in policy.split("; "))}


def test_policy_allows_wavesurfer_style() -> None:
    library = (FILES / "vendor" / "wavesurfer.esm.js").read_text()
    height = re.search(r"HEIGHT = (\d+);", (FILES / "script" / "takes" / "waveform.js").read_text())
    assert height is not None
    style = re.search(r"<style\$\{.*?\}>(.*?)</style>", library, re.DOTALL)
    assert style is not None
    text = re.sub(r"\$\{this\.getHeight\([^}]*\)\}", height[1], style[1]).replace("\\n", "\n")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"sha256-{digest}" == WAVEFORM_STYLE


@pytest.mark.parametrize(
    ("settings", "rule", "sources"),
    [
        ({"websocket_url": "wss://ws.example/v1"}, "connect-src", ["'self'", "wss://ws.example"]),
        (
            {"answer_max_megabytes": 4, "bucket": "mine", "aws_region": "eu-west-1"},
            "media-src",
            ["'self'", "blob:", "https://s3.amazonaws.com/mine/", "https://s3.eu-west-1.amazonaws.com/mine/"],
        ),
        (
            {"answer_max_megabytes": 4, "aws_endpoint_url": "http://127.0.0.1:4566/x"},
            "media-src",
            ["'self'", "blob:", "http://127.0.0.1:4566"],
        ),
        ({}, "media-src", ["'self'", "blob:"]),
    ],
)
def test_policy_allows_configured_hosts(settings: dict[str, Any], rule: str, sources: list[str]) -> None:
    assert _rules(content_policy(Settings(**settings)))[rule] == sources


async def test_page_settings(client: httpx.AsyncClient) -> None:
    told = (await client.get("/studio/settings.json")).json()
    assert told == {
        "websocket_url": None,
        "reference_min_seconds": 1,
        "reference_max_seconds": 60,
        "text_max_chars": 4096,
        "transcription_max_chars": 4096,
        "preview_retention_minutes": 20,
    }


@pytest.mark.parametrize(
    ("query", "accepted", "language"),
    [
        ("", "de-AT,de;q=0.9,en;q=0.8", "de"),
        ("", "fr-FR,es;q=0.5", "es"),
        ("", "ja", "en"),
        ("?lang=es", "de", "es"),
        ("?lang=xx", "", "en"),
    ],
)
async def test_page_language(query: str, accepted: str, language: str, client: httpx.AsyncClient) -> None:
    page = await client.get(f"/{query}", headers={"Accept-Language": accepted})
    assert f'<html lang="{language}" data-engine="qwen">' in page.text
    assert (page.headers["content-language"], page.headers["vary"]) == (
        language,
        "Accept-Language, Accept-Encoding",
    )
    other = await client.get("/?lang=de" if language != "de" else "/?lang=en")
    assert other.headers["etag"] != page.headers["etag"]


def test_texts_are_complete() -> None:
    english = texts("en")
    for language in LANGUAGES:
        translated = texts(language)
        assert list(translated) == list(english)
        for key, value in translated.items():
            assert value, (language, key)
            assert _names(value) == _names(english[key]), (language, key)


def _names(text: str) -> list[str]:
    return sorted(re.findall(r"\{\w+\}", text))


def test_texts_are_used() -> None:
    code = "".join(path.read_text() for path in [FILES / "index.html", *FILES.rglob("script/**/*.js")])
    families = ("language.", "theme.", "code.", "engine.")  # with keys that are put together
    unused = [
        key for key in texts("en") if not key.startswith(families) and not re.search(f'["{{]{key}["}}]', code)
    ]
    assert unused == []


async def test_first_view_preloads_its_modules(client: httpx.AsyncClient) -> None:
    links = re.findall(
        r'rel="modulepreload"( fetchpriority="low")? href="[^"]+/script/([^"]+)"', (await client.get("/")).text
    )
    urgent = [name for later, name in links if not later]
    assert "record/recorder.js" in urgent
    assert "takes/takes.js" not in urgent
    assert links[: len(urgent)] == [("", name) for name in urgent]
    assert "takes/takes.js" in [name for _, name in links]
    assert "operators.js" not in [name for _, name in links]


async def test_files_are_compressed(client: httpx.AsyncClient) -> None:
    url = f"/studio/{studio_page.version()}/style.css"
    plain = await client.get(url, headers={"Accept-Encoding": "identity"})
    packed = await client.get(url, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == plain.text
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 3


async def test_page_has_relative_urls(client: httpx.AsyncClient) -> None:
    assert not re.search(r'(?:src|href)="/', (await client.get("/")).text)


def test_libraries_have_licences() -> None:
    vendored = [*(FILES / "vendor").glob("*.esm.js"), *(FILES / "vendor").glob("*.woff2")]
    licences = {path.name.partition(".")[0] for path in (FILES / "vendor").glob("*.LICENSE.txt")}
    assert {path.name.partition(".")[0] for path in vendored} == licences
