"""Loading a model from settings, with errors of one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
import torch

from gpu_runner.engines import CannotLoad, Reference, Utterance
from gpu_runner.engines.qwen import load
from gpu_runner.engines.qwen.checkpoint import devices, weights
from gpu_runner.engines.qwen.checkpoint.loading import open_model
from pipeline.settings import Settings
from tests.qwen.conftest import SAID, greedy, hum
from tests.support.engines import synthesize

CPU = torch.device("cpu")
Change = Callable[[str, Any], None]


def cannot(settings: Settings, start: Callable[[Settings], Any] = open_model) -> str:
    """Return the last line of a failed start."""
    with pytest.raises(CannotLoad) as caught:
        start(settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def using(directory: Path | str, **more: Any) -> Settings:
    return Settings(qwen_tts_model_id=str(directory), **{"device": "cpu", "torch_threads": 1, **more})


def test_requested_and_resolved_are_logged(checkpoint: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        model = open_model(using(checkpoint))
    placed = next(entry for entry in logs if entry["event"] == "placement resolved")
    assert (placed["device_requested"], placed["device"]) == ("cpu", "cpu")
    assert (placed["torch_dtype_requested"], placed["torch_dtype"]) == ("auto", "float32")
    loaded = next(entry for entry in logs if entry["event"] == "model loaded")
    assert loaded["model_requested"] == str(checkpoint)
    assert loaded["revision"] == model.identity.revision == weights.fingerprint(checkpoint)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtype_applies_to_talker_only(checkpoint: Path, dtype: str) -> None:
    with structlog.testing.capture_logs() as logs:
        engine = load(using(checkpoint, torch_dtype=dtype))
    model = engine.loaded
    assert next(model.talker.parameters()).dtype == getattr(torch, dtype)
    assert {parameter.dtype for parameter in model.speech_tokenizer.model.parameters()} == {torch.float32}
    warned = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert any("float16 is known to break" in event for event in warned) == (dtype == "float16")
    prompt = engine.make_prompt(Reference(hum(200), SAID))
    restored = engine.restore_prompt(prompt.to_json())
    assert torch.equal(restored.speaker, prompt.speaker)
    assert prompt.speaker.dtype == getattr(torch, dtype)
    done = synthesize(engine, Utterance("a", "Hi.", restored, greedy()))["a"]
    assert len(done.samples) > 0


def test_device_setting_values() -> None:
    for wrong in ("gpu", "cuda:", "cuda:x", "mps", "cuda:123"):
        with pytest.raises(ValueError, match="device"):
            Settings(device=wrong)
    assert Settings(device="CUDA:1").device == "cuda:1"


# What torch says of the machine.


class Gpu:
    """A GPU as torch describes it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
        said = {"available": True, "capability": (9, 0), "builds": ["sm_80", "sm_90"], "count": 1, "cuda": "13.0"}
        self.facts = said | facts
        monkeypatch.setattr(torch.cuda, "is_available", lambda: self.facts["available"])
        monkeypatch.setattr(torch.cuda, "device_count", lambda: self.facts["count"])
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Test")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: self.facts["capability"])
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: self.facts["builds"])
        monkeypatch.setattr(torch.version, "cuda", self.facts["cuda"])
        monkeypatch.setattr(devices, "gpu_is_present", lambda: self.facts.get("present", True))
        monkeypatch.setattr(torch, "ones", self._ones)
        self._real_ones = torch.zeros

    def _ones(self, *shape: int, device: Any) -> torch.Tensor:
        if error := self.facts.get("error"):
            raise RuntimeError(error)
        return self._real_ones(*shape)


@pytest.mark.parametrize(
    ("capability", "asked", "resolved"),
    [
        ((9, 0), "auto", torch.bfloat16),
        ((8, 6), "auto", torch.bfloat16),
        ((7, 5), "auto", torch.float32),
        ((7, 5), "bfloat16", torch.bfloat16),
        ((9, 0), "float32", torch.float32),
        ((9, 0), "float16", torch.float16),
    ],
)
def test_auto_dtype_by_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], asked: str, resolved: torch.dtype
) -> None:
    Gpu(monkeypatch, capability=capability, builds=["sm_75", "sm_80", "sm_90"])
    placement = devices.resolve(Settings(device="auto", torch_dtype=asked))
    assert (placement.device, placement.dtype) == (torch.device("cuda:0"), resolved)


def test_int8_on_gpu_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    Gpu(monkeypatch)
    with pytest.raises(CannotLoad, match="int8 is for CPUs, and the device is cuda:0"):
        devices.resolve(Settings(device="auto", torch_dtype="int8"))


def test_apple_gpu_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    Gpu(monkeypatch, available=False, present=False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert devices.resolve(Settings(device="auto")).device == CPU
    with pytest.raises(ValueError, match="device"):
        Settings(device="mps")


def test_loading_thread_selects_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    Gpu(monkeypatch, count=4)
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    devices.use(devices.resolve(Settings(device="cuda:3")), "efficient")
    assert chosen == [torch.device("cuda:3")]


def test_rocm_build_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    Gpu(monkeypatch, capability=(9, 4), builds=["gfx90a", "gfx942"])
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert devices.resolve(Settings(device="auto")).device == torch.device("cuda:0")


@pytest.mark.parametrize(
    ("backend", "enabled"),
    [("efficient", (False, True, True)), ("cudnn", (True, True, True)), ("math", (False, False, False))],
)
def test_attention_backend_is_set(checkpoint: Path, backend: str, enabled: tuple[bool, ...]) -> None:
    cuda = torch.backends.cuda
    torch.backends.cuda.enable_cudnn_sdp(True)
    open_model(using(checkpoint, attention_backend=backend))
    found = cuda.cudnn_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.flash_sdp_enabled()
    open_model(using(checkpoint))
    assert found == enabled


def test_float32_precision_is_ieee(checkpoint: Path) -> None:
    torch.backends.cudnn.conv.fp32_precision = "tf32"  # type: ignore[attr-defined]
    open_model(using(checkpoint))
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"  # type: ignore[attr-defined]
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


def test_emulated_bfloat16_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    Gpu(monkeypatch, capability=(7, 5), builds=["sm_75"])
    with structlog.testing.capture_logs() as logs:
        devices.resolve(Settings(device="cuda", torch_dtype="bfloat16"))
    assert any("emulates bfloat16" in entry["event"] for entry in logs)


def test_auto_device_without_gpu_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    Gpu(monkeypatch, available=False, present=False)
    with structlog.testing.capture_logs() as logs:
        assert devices.resolve(Settings(device="auto")).device == CPU
    assert logs[0]["log_level"] == "warning"


GPU_TROUBLE: dict[str, tuple[str, dict[str, Any], str]] = {
    "no driver": (
        "auto",
        {"available": False},
        "driver is missing or too old for CUDA 13.0. Install driver R580",
    ),
    "no driver, asked": ("cuda", {"available": False}, "driver is missing or too old"),
    "CPU build": ("auto", {"available": False, "cuda": None}, "is a build for the CPU. Install the CUDA build"),
    "no GPU, asked": ("cuda:0", {"available": False, "present": False}, "this machine has no NVIDIA GPU"),
    "too few": ("cuda:3", {"count": 2}, "choose one of cuda:0 to cuda:1"),
    "too new": ("auto", {"capability": (12, 1)}, "NVIDIA Test (sm_121) is not among the GPUs that torch"),
    "too old": ("auto", {"capability": (6, 1)}, "Install a torch build for sm_61"),
    "broken": (
        "auto",
        {"error": "CUDA error: no kernel image\nmore"},
        "does not work: CUDA error: no kernel image.",
    ),
}


@pytest.mark.parametrize(("asked", "facts", "finding"), GPU_TROUBLE.values(), ids=GPU_TROUBLE)
def test_unusable_gpu_is_cannot_load(
    monkeypatch: pytest.MonkeyPatch, asked: str, facts: dict[str, Any], finding: str
) -> None:
    Gpu(monkeypatch, **facts)
    line = cannot(Settings(device=asked), devices.resolve)
    assert finding in line
    if "count" not in facts:
        assert "set DEVICE=cpu" in line


@pytest.mark.parametrize(
    ("build", "capability", "runs"),
    [
        ("sm_80", (8, 6), True),
        ("sm_86", (8, 0), False),
        ("sm_90a", (9, 0), True),
        ("sm_90", (12, 0), False),
        ("compute_90", (12, 0), True),
        ("compute_120", (9, 0), False),
        ("gfx942", (9, 4), False),
    ],
)
def test_build_runs_on_capability(build: str, capability: tuple[int, int], runs: bool) -> None:
    assert devices._runs_on(build, capability) is runs


# What is on disk, and what is not.


@pytest.mark.parametrize("name", [*weights.NEEDED, *weights.WEIGHTS])
def test_missing_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert f"{name} missing in {copy}" in cannot(using(copy))


@pytest.mark.parametrize("name", weights.WEIGHTS)
@pytest.mark.parametrize("keep", [0, 5, 0.5])
def test_damaged_weights(copy: Path, name: str, keep: float) -> None:
    file = copy / name
    body = file.read_bytes()
    file.write_bytes(body[: int(keep if keep > 1 else len(body) * keep)])
    assert f"{file} is damaged" in cannot(using(copy))


def test_sharded_weights(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "model-00001-of-00001.safetensors")
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))
    assert weights.locate(str(copy), None).directory == copy
    index.write_text(json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}}))
    assert "model.safetensors missing" in cannot(using(copy))


def test_damaged_config(copy: Path) -> None:
    (copy / "config.json").write_text("{")
    assert "config.json is damaged" in cannot(using(copy))


def test_other_model_type(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"tts_model_type": "custom_voice"}))
    assert "contains a custom_voice model" in cannot(using(copy))


def test_weights_do_not_match_config(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["talker_config"]["hidden_size"] = 64
    (copy / "config.json").write_text(json.dumps(config))
    assert "can't be loaded (" in cannot(using(copy))


def test_not_enough_memory(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "free_memory", lambda device: 1000)
    assert "GiB for its weights in float32, and cpu has 0.0 GiB free" in cannot(using(checkpoint))


def test_out_of_memory_while_loading(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("gpu_runner.engines.qwen.checkpoint.loading._load", full)
    assert "The model does not fit on cpu (CUDA out of memory.)" in cannot(using(checkpoint))


def test_bytes_by_precision(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    single, half = weights._bytes_as(file, 4), weights._bytes_as(file, 2)
    assert single == 2 * half
    assert 0.9 < single / file.stat().st_size < 1


def test_fingerprint_depends_on_weights(copy: Path) -> None:
    before = weights.fingerprint(copy)
    file = copy / "model.safetensors"
    body = bytearray(file.read_bytes())
    body[-1] ^= 1
    file.write_bytes(body)
    assert weights.fingerprint(copy) != before


# The hub.

PUBLISHED = "Qwen/Qwen3-TTS-12Hz-0.6B-Base"


def test_cached_model_needs_no_network(monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / weights.PINNED[PUBLISHED]
    snapshot.symlink_to(checkpoint)
    asked: list[dict[str, Any]] = []

    def cached(_: str, **how: Any) -> str:
        asked.append(how)
        return str(snapshot)

    monkeypatch.setattr(weights, "snapshot_download", cached)
    found = weights.locate(PUBLISHED, None)
    assert (found.model, found.revision) == (PUBLISHED, weights.PINNED[PUBLISHED])
    assert asked == [{"revision": weights.PINNED[PUBLISHED], "local_files_only": True}]


def test_incomplete_model_is_downloaded(monkeypatch: pytest.MonkeyPatch, copy: Path, checkpoint: Path) -> None:
    (copy / "model.safetensors").unlink()
    monkeypatch.setattr(weights, "snapshot_download", lambda _, **__: str(copy))
    monkeypatch.setattr(weights, "download", lambda *_: checkpoint)
    assert weights.locate(PUBLISHED, None).directory == checkpoint


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "nowhere", "a/b/c"])
def test_missing_directory(name: str) -> None:
    assert "there is no such directory" in cannot(using(name))
