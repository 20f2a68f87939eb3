"""The benchmark with the tiny model on a CPU, in stages that continue from earlier results."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_runner.engines.qwen.engine import QwenEngine
from tests.benchmarks import qwen_engine, qwen_faster, qwen_load
from tests.benchmarks.qwen_engine import Bench, run, stages, table

SMALLEST = qwen_load.Size((2.0,), (13, 13), 1)
MEASURED = {"ms_per_frame": 1.0}

# Stands in for the package, which runs on a GPU only; what it is called with is what it answers to.
FASTER = """
import numpy as np

class FasterQwen3TTS:
    @classmethod
    def from_pretrained(cls, model_name, *, device, dtype):
        assert (model_name, device, str(dtype)) == ("CHECKPOINT", "cpu", "torch.float32")
        return cls()

    def generate_voice_clone(self, *, text, language, voice_clone_prompt, ref_text, max_new_tokens, min_new_tokens):
        item, = voice_clone_prompt
        assert item.ref_code.shape[1:] == (16,) and item.ref_spk_embedding.dim() == 1
        assert item.icl_mode and not item.x_vector_only_mode and item.ref_text == ref_text
        print("Capturing graphs ...")
        return [np.zeros(FRAMES * 1920)], 24000
"""
LIBRARY = """
from dataclasses import dataclass

@dataclass
class VoiceClonePromptItem:
    ref_code: object
    ref_spk_embedding: object
    x_vector_only_mode: bool
    icl_mode: bool
    ref_text: str
"""


def test_stage_has_time_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def endless() -> dict[str, Any]:
        while True:
            pass

    monkeypatch.setattr(qwen_engine, "STAGE_SECONDS", 0.05)
    monkeypatch.setattr(qwen_engine, "stages", lambda bench: {"endless": endless, "next": lambda: {"ms": 1.0}})
    found = run(Bench("tiny", "cpu", (1,), tmp_path, SMALLEST), None)
    assert found == {"endless": {"skipped": "it took longer than 0.05 s"}, "next": {"ms": 1.0}}


@pytest.mark.slow
def test_benchmark_continues_from_results(tmp_path: Path, checkpoint: Path) -> None:
    results = tmp_path / "results.json"
    found = run(Bench("tiny", "cpu", (1, 2), checkpoint, SMALLEST), results)
    assert found["logits"]["float32"] < 1e-4
    assert found["codec"]["chunked_snr_db"] > 60
    assert found["seeds"]["same_share"] == 1
    assert found["closed_2"]["audio_seconds_per_second"] > 0
    assert found["operations"]["syncs_per_frame"] == 0
    written = json.loads(results.read_text())
    assert written["ms_per_frame"].keys() == {"1", "2"}
    assert "CUDA" in written["stages"].pop("faster_qwen3_tts")["skipped"]
    results.write_text(json.dumps(written | {"stages": written["stages"] | {"faster_qwen3_tts": MEASURED}}))
    again = Bench("tiny", "cpu", (1, 2), tmp_path / "no model is needed", SMALLEST)
    assert run(again, results) == written["stages"] | {"faster_qwen3_tts": MEASURED}
    lines = table(again).splitlines()
    assert len(lines) == 4 + len(stages(again))


@pytest.fixture
def ask_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: QwenEngine) -> Callable[[str], Any]:
    """Ask the program for its time, with a stand-in for the package that makes so many frames."""

    def ask(frames: str) -> Any:
        checkpoint = tmp_path / "checkpoint"
        package = FASTER.replace("CHECKPOINT", str(checkpoint)).replace("FRAMES", frames)
        (tmp_path / "faster_qwen3_tts.py").write_text(package)
        (tmp_path / "qwen_tts.py").write_text(LIBRARY)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        command = [sys.executable, str(qwen_faster.PROGRAM)]
        return qwen_faster.compare(command, checkpoint, engine, "cpu", SMALLEST)

    return ask


@pytest.mark.slow
def test_faster_engine_gets_same_frame_count(ask_other: Callable[[str], Any]) -> None:
    assert ask_other("max_new_tokens").keys() == {"ms_per_frame"}


@pytest.mark.slow
def test_faster_engine_must_generate_frames(ask_other: Callable[[str], Any]) -> None:
    assert "are not 13 frames" in ask_other("5")["failed"]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; sys.exit(3)", "status 3"),
        ("print('no answer')", "status 0"),
        ("import time; time.sleep(60)", "within 2 s"),
    ],
)
def test_failed_program_is_recorded(program: str, reason: str) -> None:
    assert reason in qwen_faster.ask([sys.executable, "-c", program], {}, seconds=2)["failed"]
