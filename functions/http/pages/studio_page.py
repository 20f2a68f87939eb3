"""`/`: the studio, a web page that uses the public API, without requests to other hosts.

Its files have a URL that changes with their content: browsers cache them permanently and never mix two versions.
"""

import hashlib
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from pipeline.settings import Settings

FILES = Path(__file__).parents[2] / "studio"
SERVED = {"script", "style", "vendor", "chevron.svg", "icon.svg"}

# The style that wavesurfer.js adds to each waveform, with the height that `waveform.js` sets.
WAVEFORM_STYLE = "sha256-GDz2FZP0i7VZaDhs1mgc43IRUXU2xajPIjvThHvZvbs="

FOREVER = "public, max-age=31536000, immutable"


def install(app: FastAPI, settings: Settings) -> None:
    """Add the routes of the page and its assets."""
    headers = {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": content_policy(settings),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "microphone=(self)",
    }

    async def page(request: Request) -> Response:
        tag = f'"{version()}"'
        if request.headers.get("If-None-Match") == tag:
            return Response(status_code=304, headers=headers | {"ETag": tag})
        return HTMLResponse(_page(), headers=headers | {"ETag": tag})

    async def page_settings(_request: Request) -> Response:
        return JSONResponse(_page_settings(settings), headers={"Cache-Control": "no-cache"})

    files = StaticFiles(directory=FILES)

    async def file(request: Request) -> Response:
        path = request.path_params["path"]
        if path.partition("/")[0] not in SERVED:
            raise HTTPException(404)
        response = await files.get_response(path, request.scope)
        is_current = request.path_params["version"] == version()
        response.headers["Cache-Control"] = FOREVER if is_current else "no-store"
        return response

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


@cache
def _page() -> str:
    page = (FILES / "index.html").read_text(encoding="utf-8")
    # Preload all modules: a browser would discover them only one import after the other.
    modules = sorted(path for path in FILES.rglob("*.js") if not path.stem.endswith("-worklet"))
    links = "".join(f'<link rel="modulepreload" href="studio/{path.relative_to(FILES)}">\n' for path in modules)
    return page.replace("</head>", f"{links}</head>").replace('="studio/', f'="studio/{version()}/')
