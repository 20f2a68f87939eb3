"""`GET` and `PUT /disclaimer`."""

from pipeline.contract.languages import LANGUAGES
from pipeline.provenance.disclaimers import SENTENCES
from tests.support.fake_service import FakeService
from tests.unit.functions.access.test_authorization import SETTINGS, bearer, client_of, key_of

DEFAULTS = {"spoken": False, "language": "English", "chinese_label": False, "interval_minutes": 5}


async def test_disclaimer_of_owner() -> None:
    fakes = FakeService(SETTINGS)
    alice, bob = await key_of(fakes, "alice"), await key_of(fakes, "bob")
    async with client_of(fakes) as client:
        assert (await client.get("/disclaimer", headers=bearer(alice))).json() == DEFAULTS
        given = {"spoken": True, "language": "German"}
        answer = await client.put("/disclaimer", json=given, headers=bearer(alice))
        assert answer.json() == DEFAULTS | given
        assert (await client.get("/disclaimer", headers=bearer(alice))).json() == DEFAULTS | given
        assert (await client.get("/disclaimer", headers=bearer(bob))).json() == DEFAULTS


async def test_disclaimer_with_wrong_settings() -> None:
    fakes = FakeService(SETTINGS)
    key = await key_of(fakes, "alice")
    async with client_of(fakes) as client:
        for wrong in ({"spoken": "loud"}, {"language": "Klingon"}, {"interval_minutes": 0}, {"speak": True}):
            answer = await client.put("/disclaimer", json=wrong, headers=bearer(key))
            assert answer.status_code == 422
            assert next(iter(wrong)) in answer.text
        assert (await client.get("/disclaimer", headers=bearer(key))).json() == DEFAULTS


def test_sentence_for_every_language() -> None:
    assert set(SENTENCES) == set(LANGUAGES) - {"Auto"}
