"""`/docs`: the API to read and try out, without fetching anything from elsewhere."""

from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

ASSETS = "/docs/assets"
_FILES = Path(fastapi_offline.__file__).parent / "static"

router = APIRouter(include_in_schema=False)


def install(app: FastAPI) -> None:
    """Serve the page and what it is made of."""
    app.mount(ASSETS, StaticFiles(directory=_FILES))
    app.include_router(router)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Show the description in the browser."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Voice cloning service",
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
    )
