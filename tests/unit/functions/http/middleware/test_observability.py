"""Correlation ids."""

import pytest

from tests.support.api import RESPOND_ASYNC, api, last_request
from tests.support.fake_service import FakeService


@pytest.mark.parametrize(("given", "kept"), [("corr-1", True), ("a" * 129, False), ("a b", False), ("", False)])
async def test_correlation_id_reaches_job(given: str, kept: bool) -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        form = {"session_id": await fakes.session(), "response_text": "Hello."}
        answer = await client.post("/preview", data=form, headers=RESPOND_ASYNC | {"X-Correlation-Id": given})
    used = answer.headers["x-correlation-id"]
    assert (used == given) is kept
    assert (await last_request(fakes)).correlation_id == used
