"""`/docs` and `/asyncapi.json`: the API documentation; the page sends no requests to other hosts."""

from functools import cache
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from functions.http.pages.studio_page import version

ASSETS = "/docs/assets"
START = "/docs/start.js"
_FILES = Path(fastapi_offline.__file__).parent / "static"

# The images are in the stylesheet; previews are played from their route.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "img-src 'self' data:",
        "media-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


@cache
def page() -> str:
    """Return the page.  The URLs are relative: a proxy may publish the service under a path prefix."""
    studio = f"studio/{version()}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Voice cloning service</title>
<link rel="stylesheet" href="{ASSETS[1:]}/swagger-ui.css">
<link rel="stylesheet" href="{studio}/style.css">
<link rel="stylesheet" href="{studio}/style/docs.css">
<link rel="icon" href="{studio}/icon.svg">
</head>
<body>
<header class="bar">
<a class="wordmark" href="./"><img class="mark" src="{studio}/icon.svg" alt="">Voice studio</a>
<nav aria-label="Descriptions"><a class="quiet" href="openapi.json">OpenAPI</a>
<a class="quiet" href="asyncapi.json">AsyncAPI</a></nav>
</header>
<main id="swagger-ui"></main>
<script src="{ASSETS[1:]}/swagger-ui-bundle.js"></script>
<script src="{START[1:]}"></script>
</body>
</html>
"""


# Without `validatorUrl: null` the page would use an external service to validate the description.
SCRIPT = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  layout: "BaseLayout",
  showExtensions: true,
  showCommonExtensions: true,
  validatorUrl: null,
});
"""

router = APIRouter(include_in_schema=False)


def install(app: FastAPI) -> None:
    """Add the routes of the page and its assets."""
    app.mount(ASSETS, StaticFiles(directory=_FILES))
    app.include_router(router)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Return the API documentation."""
    return HTMLResponse(page(), headers={"Content-Security-Policy": POLICY})


@router.get("/asyncapi.json")
async def asyncapi() -> JSONResponse:
    """Return the description of the messages."""
    from functions.http.pages.asyncapi_document import document  # not needed at a cold start

    return JSONResponse(document())


@router.get(START)
async def start() -> Response:
    """Return the script that initializes the page."""
    return Response(SCRIPT, media_type="text/javascript")
