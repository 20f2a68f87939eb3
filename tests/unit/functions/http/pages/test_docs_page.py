"""The page with the API documentation."""

import re

from tests.support.api import api
from tests.support.fake_service import FakeService


async def test_docs_page_loads_openapi() -> None:
    async with api(FakeService()) as client:
        docs = await client.get("/docs")
        assert docs.status_code == 200
        assert docs.headers["content-type"].startswith("text/html")
        scripts = re.findall(r'<script src="([^"]+)"></script>', docs.text)
        assert '"openapi.json"' in "".join(
            [(await client.get(f"/{script}")).raise_for_status().text for script in scripts]
        )
        assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.")
