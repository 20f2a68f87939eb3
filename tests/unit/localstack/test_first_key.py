"""The first key of a container."""

import pytest
from supervision.first_key import make_first_key

from pipeline.access import api_keys
from pipeline.settings import Settings
from tests.support.fake_service import FakeService


async def test_first_key_has_all_scopes() -> None:
    resources = FakeService(Settings(auth="keys")).resources
    text = await make_first_key(resources, "me")
    assert text is not None
    (listed,) = await api_keys.list_keys(resources)
    assert (listed.record.owner, set(listed.record.scopes)) == ("me", set(api_keys.SCOPES))
    assert listed.record.key_id in text


async def test_first_key_is_made_once() -> None:
    resources = FakeService(Settings(auth="keys")).resources
    await make_first_key(resources, "me")
    assert await make_first_key(resources, "me") is None
    assert len(await api_keys.list_keys(resources)) == 1


@pytest.mark.parametrize(("auth", "owner"), [("keys", None), ("none", "me")])
async def test_first_key_not_wanted(auth: str, owner: str | None) -> None:
    resources = FakeService(Settings(auth=auth)).resources
    assert await make_first_key(resources, owner) is None
    assert await api_keys.list_keys(resources) == []
