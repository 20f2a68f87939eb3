"""Failed keys do not block valid keys, and clients cannot forge the address that is counted."""

from datetime import timedelta

import httpx
import pytest

from functions.access.access_control import AccessControl
from functions.local.server import local_app
from pipeline.access import api_keys, key_format, ws_tickets
from pipeline.clients.resources import Resources
from pipeline.errors import TooMany, Unauthorized
from pipeline.settings import Settings
from tests.support.api import api
from tests.support.fake_service import FakeService
from tests.support.http_server import override, run_server

SETTINGS = Settings(auth="keys")
HOME = "192.0.2.7"


async def key_of(resources: Resources, owner: str, *, hours: int = 24, secret: int = 0) -> str:
    """Create a key.  Keys of one owner have the same id; `secret` selects the secret."""

    def random(size: int) -> bytes:
        return owner.encode().ljust(size) if size == 16 else bytes([secret]) * size

    end = resources.clock() + timedelta(hours=hours)
    key, _ = await api_keys.make(resources, owner=owner, name="", scopes=["preview"], expires_at=end, random=random)
    return key


async def status_of(client: httpx.AsyncClient, key: str, **headers: str) -> int:
    answer = await client.get("/voices", headers={"Authorization": f"Bearer {key}", **headers})
    return answer.status_code


async def test_expired_key_does_not_block_good_key() -> None:
    fakes = FakeService(SETTINGS)
    expired, good = await key_of(fakes.resources, "bob", hours=1), await key_of(fakes.resources, "alice")
    fakes.advance(hours=2)
    async with api(fakes) as client:
        assert [await status_of(client, expired) for _ in range(22)] == [401] * 20 + [429] * 2
        assert await status_of(client, good) == 200


async def test_unknown_keys_do_not_block_good_key() -> None:
    fakes, other = FakeService(SETTINGS), FakeService(SETTINGS)
    good, unknown = await key_of(fakes.resources, "alice"), await key_of(other.resources, "mallory")
    async with api(fakes) as client:
        for wrong in ("vck_wrong", unknown, good[:-1]):
            assert [await status_of(client, wrong) for _ in range(21)][-1] == 429
        assert await status_of(client, good) == 200


async def test_wrong_secrets_do_not_block_right_one() -> None:
    fakes, other = FakeService(SETTINGS), FakeService(SETTINGS)
    good = await key_of(fakes.resources, "alice", secret=1)
    guessed = await key_of(other.resources, "alice", secret=2)
    assert key_format.key_id_of(guessed) == key_format.key_id_of(good)
    async with api(fakes) as client:
        assert [await status_of(client, guessed) for _ in range(21)][-1] == 429
        assert await status_of(client, good) == 200


async def test_used_ticket_does_not_block_good_one() -> None:
    fakes = FakeService(SETTINGS)
    access_control = AccessControl(fakes.resources)
    caller = await access_control.authenticate_key(f"Bearer {await key_of(fakes.resources, 'alice')}", HOME)
    used, _ = await ws_tickets.issue(fakes.resources, caller)
    await access_control.authenticate_ticket(used, HOME)
    for expected in [Unauthorized] * 20 + [TooMany]:
        with pytest.raises(expected):
            await access_control.authenticate_ticket(used, HOME)
    good, _ = await ws_tickets.issue(fakes.resources, caller)
    assert (await access_control.authenticate_ticket(good, HOME)).owner == "alice"


async def failures_until_refused(url: str, key: str, addresses: list[str]) -> list[int]:
    async with httpx.AsyncClient(base_url=url) as client:
        return [await status_of(client, key, **{"X-Forwarded-For": address}) for address in addresses]


ADDRESSES = [f"198.51.100.{number}" for number in range(22)]


async def test_forwarded_for_is_ignored_by_default(resources: Resources) -> None:
    app = local_app(override(resources.settings, auth="keys"))
    async with run_server(app) as url:
        assert (await failures_until_refused(url, "vck_wrong", ADDRESSES))[-1] == 429


async def test_forwarded_for_of_trusted_proxy(resources: Resources) -> None:
    settings = override(resources.settings, auth="keys", trusted_proxies="10.0.0.0/8, 127.0.0.1")
    async with run_server(local_app(settings)) as url:
        assert set(await failures_until_refused(url, "vck_wrong", ADDRESSES)) == {401}


async def test_forwarded_for_of_other_proxy_ignored(resources: Resources) -> None:
    settings = override(resources.settings, auth="keys", trusted_proxies="10.0.0.0/8")
    async with run_server(local_app(settings)) as url:
        assert (await failures_until_refused(url, "vck_wrong", ADDRESSES))[-1] == 429
