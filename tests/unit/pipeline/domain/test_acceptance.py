"""Acceptance of jobs, also when the storage or the queue fails."""

import asyncio

import pytest

from pipeline.clients.storage import NewObject
from pipeline.contract import layout
from pipeline.domain import acceptance
from pipeline.domain.acceptance import check_text
from pipeline.errors import InvalidInput, Unavailable
from pipeline.settings import Settings
from tests.support.fake_service import FakeService
from tests.support.fakes.switch import Switch

SETTINGS = Settings()
EXTRA = NewObject("audio/uploads/extra", b"", "x")


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000"])
def test_check_text_blank(text: str) -> None:
    with pytest.raises(InvalidInput, match="blank") as caught:
        check_text(text, SETTINGS, field="response_text")
    assert caught.value.field == "response_text"


@pytest.mark.parametrize(
    "text",
    [
        "...",
        "?!",
        "\u2026",
        "😀",
        "👩\u200d🚀",
        "🇩🇪",
        "\x00\x07",
        "\u200b\ufeff",
        "\u3164\uffa0",
        "\u0301",
        "\ue000",
        "。、「」",
        "- * _ #",
        "\ud800",
        "<>",
        "ー",
        "\u02bc",
    ],
)
def test_check_text_without_speakable(text: str) -> None:
    with pytest.raises(InvalidInput, match="nothing to speak") as caught:
        check_text(text, SETTINGS, field="input")
    assert caught.value.field == "input"


@pytest.mark.parametrize("text", ["a", "7", "½", "é!", "小", "ع", "ก", "1️⃣", "𝐀", "…x…", "コーヒー", "한"])
def test_check_text_speakable(text: str) -> None:
    assert check_text(text, SETTINGS, field="input") == text


def test_check_text_too_long() -> None:
    assert check_text("小" * 4096, SETTINGS, field="text") == "小" * 4096
    with pytest.raises(InvalidInput, match=r"has 4097 characters. It should have at most 4096"):
        check_text("a" * 4097, SETTINGS, field="text")
    with pytest.raises(InvalidInput, match="at most 3"):
        check_text("four", Settings(text_max_chars=3), field="text")


async def test_long_request_is_not_in_message() -> None:
    fakes = FakeService()
    request = (await fakes.request()).model_copy(update={"text": "小" * 30_000})
    await acceptance.accept(fakes.resources, request)
    assert fakes.synthesis.bodies == [f'{{"job_id":"{request.job_id}","request":null}}']


async def test_accept_fails_without_storage() -> None:
    for calls in range(5):
        fakes = FakeService()
        request = await fakes.request()
        before = fakes.keys()
        fakes.fail_after(calls, Unavailable)
        try:
            await acceptance.accept(fakes.resources, request, [EXTRA])
        except Unavailable:
            fakes.recover()
        else:
            assert calls >= 3
            assert fakes.synthesis.bodies
            continue
        assert fakes.synthesis.bodies == []
        left = set(fakes.keys()) - set(before) - {EXTRA.key}
        # The storage that could not be written to can't be cleaned either, but then nothing was written.
        assert not left or calls in {1, 2, 3}


async def test_unsent_request_is_withdrawn() -> None:
    fakes = FakeService()
    request = await fakes.request()
    fakes.synthesis.switch.is_up = False
    with pytest.raises(Unavailable):
        await acceptance.accept(fakes.resources, request)
    assert fakes.keys(layout.JOBS) == []


class NoRoom(Switch):
    """Fails one of the writes, after some turns of the event loop."""

    def __init__(self, failing: int, turns: int) -> None:
        super().__init__()
        self._failing, self._turns = failing, turns

    async def passed(self, call: str) -> None:
        """See `Switch.passed`."""
        await super().passed(call)
        if call == "put" and self.count("put") == self._failing:
            for _ in range(self._turns):
                await asyncio.sleep(0)
            raise Unavailable("no room")


@pytest.mark.parametrize("turns", [0, 20])
async def test_failed_upload_withdraws_request(turns: int) -> None:
    fakes = FakeService()
    request = await fakes.request()
    fakes.bucket.switch = NoRoom(2, turns)
    with pytest.raises(Unavailable, match="no room"):
        await acceptance.accept(fakes.resources, request, [EXTRA])
    for _ in range(20):
        await asyncio.sleep(0)
    assert fakes.keys(layout.JOBS) == []
    assert fakes.synthesis.bodies == []


async def test_message_group_is_owner() -> None:
    fakes = FakeService()
    request = await fakes.job(owner="alice")
    await acceptance.enqueue(fakes.resources, request.job_id, "alice")
    assert fakes.synthesis.groups == ["alice", "alice"]
