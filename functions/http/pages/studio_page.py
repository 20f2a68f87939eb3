"""`/`: the studio, a web page that uses the public API, without requests to other hosts.

Its files have a URL that changes with their content: browsers cache them permanently and never mix two versions.
The page is served in the language of the browser, or in the one of `?lang=`.
"""

import gzip
import hashlib
import html
import json
import mimetypes
import re
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from pipeline.settings import Settings

FILES = Path(__file__).parents[2] / "studio"
SERVED = {"script", "style", "vendor", "icon.svg", "chevron.svg", "manifest.webmanifest"}
STYLE = "style.css"  # all stylesheets in one file, because each request takes a round trip
STYLESHEETS = ("tokens", "page", "controls", "voice", "takes", "voices")
LANGUAGES = ("en", "de", "es")

# The style that wavesurfer.js adds to each waveform, with the height that `waveform.js` sets.
WAVEFORM_STYLE = "sha256-GDz2FZP0i7VZaDhs1mgc43IRUXU2xajPIjvThHvZvbs="

FOREVER = "public, max-age=31536000, immutable"
_IMPORT = re.compile(r'^(?:import|export) (?:[^"]*? from )?"(\.[^"]+)"', re.MULTILINE)


def install(app: FastAPI, settings: Settings) -> None:
    """Add the routes of the page and its assets."""
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": content_policy(settings),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "microphone=(self)",
    }

    async def page(request: Request) -> Response:
        language = page_language(request.query_params.get("lang", ""), request.headers.get("Accept-Language", ""))
        tag = f'"{version()}-{language}-{settings.tts_backend}"'
        its_headers = headers | {"ETag": tag, "Content-Language": language}
        # A compressed page has a weak validator at some proxies.
        if request.headers.get("If-None-Match", "").removeprefix("W/") == tag:
            return Response(status_code=304, headers=its_headers | {"Vary": "Accept-Language, Accept-Encoding"})
        return _encoded(
            request, _page(language, settings.tts_backend), "text/html", its_headers, "Accept-Language, "
        )

    async def page_settings(_request: Request) -> Response:
        return JSONResponse(_page_settings(settings), headers={"Cache-Control": "no-cache"})

    async def file(request: Request) -> Response:
        path = request.path_params["path"]
        is_current = request.path_params["version"] == version()
        caching = {"Cache-Control": FOREVER if is_current else "no-store"}
        return _encoded(request, _asset(path), mimetypes.guess_type(path)[0], caching)

    app.add_route("/", page, include_in_schema=False)
    app.add_route("/studio/settings.json", page_settings, include_in_schema=False)
    app.add_route("/studio/{version}/{path:path}", file, include_in_schema=False)


def content_policy(settings: Settings) -> str:
    """Return the page's Content-Security-Policy: its own assets, and requests to this service and its storage."""
    sockets = f" {_origin(settings.websocket_url)}" if settings.websocket_url else ""
    rules = (
        "default-src 'none'",
        "script-src 'self'",
        f"style-src 'self' '{WAVEFORM_STYLE}'",
        "font-src 'self'",
        "img-src 'self'",
        "manifest-src 'self'",
        " ".join(["media-src 'self' blob:", *_storage_origins(settings)]),
        f"connect-src 'self'{sockets}",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return "; ".join(rules)


def _storage_origins(settings: Settings) -> list[str]:
    """Return the storage's origins: previews that are too large for a response are redirected there."""
    if not settings.answer_max_bytes:
        return []
    if endpoint := settings.endpoint_for("s3"):
        return [_origin(endpoint)]
    # Which of the two hosts a presigned URL has depends on the region.
    hosts = ("s3.amazonaws.com", f"s3.{settings.aws_region}.amazonaws.com")
    return [f"https://{host}/{settings.bucket}/" for host in hosts]


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _page_settings(settings: Settings) -> dict[str, object]:
    limits = (
        "reference_min_seconds",
        "reference_max_seconds",
        "text_max_chars",
        "transcription_max_chars",
        "preview_retention_minutes",
    )
    return {"websocket_url": settings.websocket_url, **settings.model_dump(include=set(limits))}


@cache
def version() -> str:
    """Return a digest of the page's files."""
    digest = hashlib.sha256()
    for file in sorted(path for path in FILES.rglob("*") if path.is_file()):
        digest.update(str(file.relative_to(FILES)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def page_language(chosen: str, accepted: str) -> str:
    """Return the language of the page: the chosen one, the first accepted one that exists, or English."""
    wanted = [chosen, *(part.partition(";")[0].strip().partition("-")[0].lower() for part in accepted.split(","))]
    return next((language for language in wanted if language in LANGUAGES), "en")


@cache
def texts(language: str) -> dict[str, str]:
    """Return the texts of the page in a language, by their keys."""
    found: dict[str, str] = json.loads((FILES / "language" / f"{language}.json").read_text(encoding="utf-8"))
    return found


@cache
def _page(language: str, backend: str) -> bytes:
    page = (FILES / "index.html").read_text(encoding="utf-8")
    # Preload the modules, those of the first view first: a browser would discover them one import after the other.
    first, rest = _imports("script/app.js"), _imports("script/rest.js")
    links = "".join(f'<link rel="modulepreload" href="studio/{path}">\n' for path in first)
    links += "".join(
        f'<link rel="modulepreload" fetchpriority="low" href="studio/{path}">\n'
        for path in rest
        if path not in first
    )
    data = json.dumps(texts(language), ensure_ascii=False).replace("<", "\\u003c")
    block = f'<script type="application/json" id="texts">{data}</script>\n'
    page = page.replace("</head>", f"{links}</head>").replace('="studio/', f'="studio/{version()}/')
    options = "".join(
        f'<option value="{code}"{" selected" * (code == language)}>{texts(code)["language.name"]}</option>'
        for code in LANGUAGES
    )
    found = {key: html.escape(value) for key, value in texts(language).items()}
    found |= {"language.options": options}
    # With the engine, the notice about it does not move the page later.
    page = page.replace('<html lang="en">', f'<html lang="{language}" data-engine="{backend}">')
    page = re.sub(r"\{\{([\w.]+)\}\}", lambda key: found[key[1]], page)
    return page.replace("</body>", f"{block}</body>").encode()


def _imports(path: str) -> list[str]:
    """Return the paths of all modules that a module imports when it is loaded."""
    found, waiting = dict[str, None](), [path]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found[module] = None
        folder, script = (FILES / module).parent, (FILES / module).read_text(encoding="utf-8")
        waiting += [str((folder / name).resolve().relative_to(FILES.resolve())) for name in _IMPORT.findall(script)]
    return list(found)


@cache
def _asset(path: str) -> bytes:
    """Return a file of the page.

    Raises
    ------
    HTTPException
        There is no such file.
    """
    if path == STYLE:
        style = "\n".join((FILES / "style" / f"{name}.css").read_text(encoding="utf-8") for name in STYLESHEETS)
        return style.replace('url("../', 'url("').encode()
    root, file = FILES.resolve(), (FILES / path).resolve()
    if not any(file.is_relative_to(root / name) for name in SERVED) or not file.is_file():
        raise HTTPException(404)
    return file.read_bytes()


def _encoded(
    request: Request, content: bytes, media_type: str | None, headers: dict[str, str], vary: str = ""
) -> Response:
    """Return a response, compressed if it is text and the client accepts that."""
    headers = headers | {"Vary": f"{vary}Accept-Encoding"}
    is_text = media_type is not None and not media_type.startswith("font/")
    if is_text and "gzip" in request.headers.get("Accept-Encoding", ""):
        content, headers = _compressed(content), headers | {"Content-Encoding": "gzip"}
    kind = HTMLResponse if media_type == "text/html" else Response
    return kind(content, media_type=media_type, headers=headers)


@cache
def _compressed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)
