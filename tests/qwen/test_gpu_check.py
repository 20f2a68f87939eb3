"""The check of a new GPU host, on a CPU with the tiny model."""

import json
from pathlib import Path

import pytest

from gpu_runner.engines.qwen import gpu_check
from gpu_runner.engines.qwen.checkpoint.model import Model
from gpu_runner.engines.qwen.gpu_check import GpuCheck, recommended
from pipeline.settings import Settings

STAGES = ["device", "load", "codec", "attention", "graphs", "prompt", "equality", "speech_1", "recommended"]


def test_report_has_all_stages(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    one_text = settings.model_copy(update={"worker_batch_size": 1})
    assert gpu_check.main(one_text, ["--report", str(report)]) == 0
    found = json.loads(report.read_text())
    assert list(found) == STAGES
    assert found["equality"]["equal"]
    assert found["recommended"] == {"WORKER_BATCH_SIZE": 1, "TORCH_DTYPE": "int8"}
    assert "FrameSize(batch=1, length=256, few=True)" in found["graphs"]["sizes"]
    printed = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert [name for name in printed if name in STAGES] == STAGES


def test_failed_stage_does_not_stop_others(settings: Settings, model: Model) -> None:
    class WithoutVoice(GpuCheck):
        def _prompt(self) -> dict[str, object]:
            raise RuntimeError("no voice\nand a second line")

    check = WithoutVoice(settings.model_copy(update={"worker_batch_size": 1}))
    check.__dict__["model"] = model
    report = check.run()
    assert report["prompt"] == {"failed": "RuntimeError: no voice"}
    assert report["speech_1"]["audio_seconds_per_second"] > 0


def speech(throughput: float, each: float) -> dict[str, float]:
    return {"audio_seconds_per_second": throughput, "real_time_of_each": each}


def attention(math: float, efficient: float, cudnn: float, difference: float = 0.0) -> dict[str, dict[str, float]]:
    return {
        "math": {"ms": math, "difference": 0.0},
        "efficient": {"ms": efficient, "difference": 0.01},
        "cudnn": {"ms": cudnn, "difference": difference},
    }


GPU = {"device": {"device": "cuda:0"}}


def test_recommended_texts_are_faster_than_real_time() -> None:
    report = GPU | {"attention": attention(9, 5, 4), "speech_8": speech(80, 10), "speech_64": speech(300, 4.7)}
    report |= {"speech_128": speech(310, 0.9)}
    assert recommended(report) == {"WORKER_BATCH_SIZE": 64, "ATTENTION_BACKEND": "cudnn"}


def test_recommended_attention_is_exact() -> None:
    report = GPU | {"attention": attention(9, 5, 4, difference=0.5), "speech_1": speech(12, 12)}
    assert recommended(report)["ATTENTION_BACKEND"] == "efficient"


def test_recommended_precision_after_failed_speech() -> None:
    report = GPU | {"attention": {"failed": "RuntimeError"}, "speech_1": {"failed": "SynthesisFailed"}}
    assert recommended(report) == {"TORCH_DTYPE": "float32"}
