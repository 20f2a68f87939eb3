"""`/v1/audio/voices` and `/v1/models`: lookup, aliases, and lists without a key."""

import pytest
from pydantic import ValidationError

from functions.http.openai.voice_lookup import find_voice
from pipeline.domain import voice_changes, voice_renaming
from pipeline.errors import NotFound
from pipeline.settings import Backend, Settings
from tests.support.api import api
from tests.support.fake_service import FakeService
from tests.support.openai_api import SPEECH, service_with_voices, speech
from tests.support.speech import voice_wav

ALIASES = Settings(voice_aliases="alloy=nova, Ash = Stella,gone=nobody", preview_wait_seconds=0)


@pytest.mark.parametrize("named", ["nova-of-nowhere", "Nova of Nowhere", " nova OF nowhere "])
async def test_find_voice_by_id_or_name(named: str) -> None:
    fakes = await service_with_voices("Nova of Nowhere", "Nova")
    assert (await find_voice(fakes.resources, None, named)).voice_id == "nova-of-nowhere"


@pytest.mark.parametrize("name", ["Zoe\u0308", "ZOË ", "zoë"])
async def test_find_voice_with_equal_slug(name: str) -> None:
    fakes = FakeService()
    await voice_changes.save(fakes.resources, None, await fakes.session(), "Zoe")
    saved = await voice_changes.save(fakes.resources, None, await fakes.session(), "Zoë")
    assert (await find_voice(fakes.resources, None, name)).voice_id == saved.voice_id
    assert (await find_voice(fakes.resources, None, "zoe")).voice_id == "zoe"


async def test_find_voice_after_rename() -> None:
    fakes = await service_with_voices("Nova")
    await voice_renaming.rename(fakes.resources, None, "nova", name="Stella")
    for named in ("Stella", "nova"):
        assert (await find_voice(fakes.resources, None, named)).voice_id == "nova"
    with pytest.raises(NotFound):
        await find_voice(fakes.resources, None, "Luna")


@pytest.mark.parametrize(
    ("name", "voice_id"), [("alloy", "nova"), ("ASH", "luna"), ("Stella", "luna"), ("gone", None)]
)
async def test_voice_aliases(name: str, voice_id: str | None) -> None:
    fakes = await service_with_voices("Nova", "Luna", settings=ALIASES)
    await voice_renaming.rename(fakes.resources, None, "luna", name="Stella")
    if voice_id is None:
        with pytest.raises(NotFound):
            await find_voice(fakes.resources, None, name)
    else:
        assert (await find_voice(fakes.resources, None, name)).voice_id == voice_id


async def test_voice_alias_fallback() -> None:
    fakes = await service_with_voices("Nova", "Alloy", settings=Settings(voice_aliases="alloy=nova,*=nova"))
    for name, voice_id in (("onyx", "nova"), ("alloy", "alloy"), ("*", "nova")):
        assert (await find_voice(fakes.resources, None, name)).voice_id == voice_id


async def test_voice_aliases_are_listed() -> None:
    async with api(await service_with_voices("Nova", "Stella", settings=ALIASES)) as client:
        listed = (await client.get("/v1/audio/voices")).json()
        model = (await client.get("/v1/models/tts-1")).json()
    names = {voice["id"]: voice["name"] for voice in listed["voices"]}
    assert names == {"nova": "Nova", "stella": "Stella", "alloy": "alloy", "ash": "ash"}
    assert [voice["id"] for voice in listed["data"]] == ["nova", "stella"]
    assert [voice["name"] for voice in model["voices"]] == ["nova", "stella"]


@pytest.mark.parametrize("aliases", ["alloy", "alloy=", "=nova", "alloy=nova,ash"])
def test_voice_aliases_invalid(aliases: str) -> None:
    with pytest.raises(ValidationError, match="should be names such as alloy=nova"):
        Settings(voice_aliases=aliases)


async def test_lists_without_key() -> None:
    """Without a key, the lists contain nothing of the owners of keys."""
    settings = Settings(auth="keys", lists_without_key=True, voice_aliases="alloy=nova,*=nova")
    async with api(await service_with_voices("Nova", settings=settings)) as client:
        voices = (await client.get("/v1/audio/voices")).json()
        assert voices["voices"] == [{"id": "alloy", "name": "alloy"}]
        assert voices["data"] == voices["uploaded_voices"] == []
        assert "tts-1" in {model["id"] for model in (await client.get("/v1/audio/models")).json()["models"]}
        for path in ("/v1/models", "/v1/audio/voices/nova", "/voices"):
            assert (await client.get(path)).status_code == 401
        wrong = await client.get("/v1/audio/voices", headers={"Authorization": "Bearer wrong"})
        assert wrong.status_code == 401
    async with api(await service_with_voices(settings=Settings(auth="keys"))) as client:
        assert (await client.get("/v1/audio/voices")).status_code == 401
        assert (await client.get("/v1/test")).json() == {"status": "ok"}


async def test_voice_with_unknown_consent_id() -> None:
    async with api(FakeService()) as client:
        for consent in ("cons_1234", "0" * 32):
            sample = {"audio_sample": ("a.wav", voice_wav(120.0))}
            response = await client.post(
                "/v1/audio/voices", data={"name": "Nova", "consent": consent}, files=sample
            )
            assert response.status_code == 404
        assert (await client.get("/v1/audio/voices")).json()["data"] == []


@pytest.mark.parametrize("model", ["tts-1-1106", "tts-1-hd-1106", "openai/tts-1", "gpt-4o-mini-tts-2025-12-15"])
async def test_model_names(model: str) -> None:
    async with api(await service_with_voices("Nova", settings=ALIASES)) as client:
        assert (await speech(client, SPEECH | {"model": model})).status_code == 503
        assert (await client.get(f"/v1/models/{model}")).json()["id"] == model
        assert (await client.get("/v1/models/tts-2")).status_code == 404


@pytest.mark.parametrize(
    ("backend", "expected"), [("qwen", None), ("hibari", "not a clone"), ("mock", "test tones")]
)
async def test_models_describe_engine(backend: Backend, expected: str | None) -> None:
    async with api(FakeService(Settings(tts_backend=backend))) as client:
        models = (await client.get("/v1/models")).json()["data"]
        for model in models:
            assert expected is None if model["description"] is None else expected in model["description"]
            found = (await client.get(f"/v1/models/{model['id']}")).json()
            assert found["description"] == model["description"]
