"""The gate before a voice is saved."""

import pytest

from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import ReferenceCheck
from pipeline.domain import voice_changes, voices
from pipeline.errors import ReferenceRejected, Unavailable
from pipeline.settings import Settings
from tests.support.analysis import NOISE
from tests.support.fakes.resources import make_fakes
from tests.support.job_requests import store_upload


async def saved(quality: str, check: ReferenceCheck | None) -> str:
    """Save a session with the result of its checks, and return the id of the voice."""
    fakes = make_fakes(Settings.model_validate({"tts_backend": "mock", "quality": quality}))
    session_id = await store_upload(fakes.resources)
    if check:
        await fakes.bucket.put(layout.session(session_id).check, check.to_json(), JSON)
    voice = await voice_changes.save(fakes.resources, None, session_id, "Nova")
    return (await voices.get(fakes.resources, None, voice.voice_id)).voice_id


async def test_required_check_rejects_faults() -> None:
    with pytest.raises(ReferenceRejected, match=r"noise: There is noise\. Record in a quiet room\."):
        await saved("require", ReferenceCheck(warnings=(NOISE,)))


@pytest.mark.parametrize("check", [None, ReferenceCheck(unavailable=("speech",))])
async def test_required_check_must_exist(check: ReferenceCheck | None) -> None:
    with pytest.raises(Unavailable):
        await saved("require", check)


@pytest.mark.parametrize(
    ("quality", "check"),
    [("require", ReferenceCheck()), ("warn", ReferenceCheck(warnings=(NOISE,))), ("warn", None), ("off", None)],
)
async def test_other_recordings_are_saved(quality: str, check: ReferenceCheck | None) -> None:
    assert await saved(quality, check) == "nova"
