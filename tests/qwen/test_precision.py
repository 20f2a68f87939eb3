"""The codec's precision on a GPU, chosen by what is heard; the GPU here is one that rounds when it is told to."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
import torch
from torch import Tensor

from gpu_runner.engines.qwen.checkpoint.model import Model
from gpu_runner.engines.qwen.network.precision import choose_precision, float32_as
from gpu_runner.engines.qwen.prompts import QwenPrompt
from tests.qwen.conftest import SAID, MakePrompt


class Rounding:
    """A codec on a GPU, whose samples differ in TF32."""

    device = torch.device("cuda:0")

    def __init__(self, codec: Any, noise: float) -> None:
        self._codec = codec
        self._noise = noise
        self.groups, self.codebook_size = codec.groups, codec.codebook_size

    def start(self, rows: int) -> Tensor:
        started: Tensor = self._codec.start(rows)
        return started

    def decode(self, codes: Tensor, state: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        samples, state = self._codec.decode(codes, state, position)
        rough = torch.backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]
        return (samples * (1 + self._noise) if rough else samples), state


@pytest.mark.parametrize(("noise", "chosen"), [(1e-3, "tf32"), (1e-2, "ieee"), (0.0, "tf32")])
def test_tf32_chosen_by_snr(model: Model, monkeypatch: pytest.MonkeyPatch, noise: float, chosen: str) -> None:
    monkeypatch.setattr(Tensor, "to", lambda tensor, device: tensor)
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, dtype, device: zeros(*shape, dtype=dtype))
    codec: Any = Rounding(model.codec, noise)
    monkeypatch.setattr("gpu_runner.engines.qwen.network.precision.FRAMES", 4)
    assert choose_precision(codec) == chosen


def test_cpu_precision_is_ieee(model: Model) -> None:
    assert choose_precision(model.codec) == "ieee"


def test_precision_is_restored() -> None:
    with float32_as("tf32"):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


def test_prompt_in_full_precision(model: Model, make_prompt: MakePrompt, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, reads, precisions = model.speech_tokenizer.encode, Event(), list[str]()

    def watched(*args: Any, **kwargs: Any) -> Any:
        precisions.append(torch.backends.cuda.matmul.fp32_precision)
        reads.set()
        return encode(*args, **kwargs)

    monkeypatch.setattr(model.speech_tokenizer, "encode", watched)
    with ThreadPoolExecutor(1) as pool:
        with float32_as("tf32"):
            making = pool.submit(make_prompt, 200, SAID)
            assert not reads.wait(0.3)
        assert isinstance(making.result(), QwenPrompt)
    assert precisions == ["ieee"]
