"""The download of a model: progress, faults and continuation."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download
from supervision.ports import free_port

from gpu_runner.engines import CannotLoad, DownloadFailed
from gpu_runner.engines.qwen.checkpoint import download as downloads
from gpu_runner.engines.qwen.checkpoint.download import download
from pipeline.contract.engines import EngineStart
from tests.support.fake_hub import SHA, FakeHub, fake_hub

MODEL = "someone/finetuned"
FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 4096}
SIZE = sum(map(len, FILES.values()))


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        file_download, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    monkeypatch.setattr(downloads, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 64 * 1024)
    with fake_hub(MODEL, FILES) as served:
        use_hub(monkeypatch, served.url, tmp_path)
        yield served


def ignore(_: EngineStart) -> None:
    pass


def test_download_reports_progress(hub: FakeHub) -> None:
    hub.bytes_per_second = 1e6
    states: list[EngineStart] = []
    folder = download(MODEL, SHA, states.append)
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert {(state.phase, state.total_bytes, state.error) for state in states} == {("downloading", SIZE, None)}
    counts = [state.bytes or 0 for state in states]
    assert counts == sorted(counts)
    halfway = [state for state in states if state.bytes and SIZE / 4 < state.bytes < SIZE]
    assert halfway
    assert all(state.remaining_seconds is not None and state.remaining_seconds < 30 for state in halfway)


def test_interrupted_download_continues(hub: FakeHub) -> None:
    hub.bytes_per_second = 1e6

    def cut(state: EngineStart) -> None:
        hub.is_up = (state.bytes or 0) < SIZE / 4

    with pytest.raises(DownloadFailed) as caught:
        download(MODEL, SHA, cut)
    message = str(caught.value)
    assert f"can't be downloaded from {hub.host}: the connection failed. " in message
    assert " of 1.0 MB are kept, and the next attempt continues there." in message
    assert "QWEN_TTS_MODEL_ID" in message
    hub.is_up = True
    hub.ranges.clear()
    folder = download(MODEL, SHA, ignore)
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert int(hub.ranges[0].removeprefix("bytes=").removesuffix("-")) >= SIZE // 5


def test_unreachable_hub_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    use_hub(monkeypatch, f"http://127.0.0.1:{port}", tmp_path)
    with pytest.raises(DownloadFailed, match=f"can't be downloaded from 127.0.0.1:{port}: the connection failed"):
        download(MODEL, SHA, ignore)


def test_unknown_model_is_not_retried(hub: FakeHub) -> None:
    with pytest.raises(CannotLoad, match="is not on the hub") as caught:
        download("someone/nothing", SHA, ignore)
    assert not isinstance(caught.value, DownloadFailed)


def test_offline_without_model(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CannotLoad, match=r"is not in the cache .* HF_HUB_OFFLINE is set"):
        download(MODEL, SHA, ignore)
