"""Int8 layers on a CPU."""

import dataclasses
from pathlib import Path

import pytest
import structlog
import torch
from torch import Tensor

from gpu_runner.engines import Reference, Utterance
from gpu_runner.engines.qwen import load
from gpu_runner.engines.qwen.checkpoint.int8_loading import CACHE
from gpu_runner.engines.qwen.checkpoint.loading import open_model
from gpu_runner.engines.qwen.network.int8 import Int8Matrix, quantize
from pipeline.settings import Settings
from tests.qwen import tiny_checkpoint
from tests.qwen.conftest import SAID, greedy, hum
from tests.qwen.forced_logits import build_talker, given, logits_of_library, logits_of_ours, quantize_layers
from tests.qwen.test_loading import copy, using
from tests.support.engines import synthesize

__all__ = ["copy"]


def int8(directory: Path) -> Settings:
    return using(directory, torch_dtype="int8")


def matrix_of(weight: Tensor) -> Int8Matrix:
    return Int8Matrix(*quantize(weight))


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_product_is_close() -> None:
    torch.manual_seed(1)
    weight, tokens = torch.randn(64, 256), torch.randn(5, 256)
    assert relative_error(matrix_of(weight).multiply(tokens), tokens @ weight.t()) < 0.03


def test_large_row_leaves_others_precise() -> None:
    torch.manual_seed(1)
    weight, tokens = torch.randn(64, 256), torch.randn(5, 256)
    tokens[0] *= 10_000
    assert relative_error(matrix_of(weight).multiply(tokens)[1:], tokens[1:] @ weight.t()) < 0.03


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_row_that_is_not_finite_stays_alone(value: float) -> None:
    torch.manual_seed(1)
    weight, tokens = torch.randn(64, 256), torch.randn(3, 256)
    tokens[1, 7] = value
    product = matrix_of(weight).multiply(tokens)
    assert not product[1].isfinite().any()
    assert relative_error(product[::2], tokens[::2] @ weight.t()) < 0.03


def test_engine_speaks(copy: Path) -> None:
    engine = load(int8(copy))
    prompt = engine.make_prompt(Reference(hum(200), SAID))
    done = synthesize(engine, Utterance("a", "Hello there.", prompt, greedy()))["a"]
    assert len(done.samples) > 0
    assert engine.reproducible_as is None  # rows of a batch share a range


def test_layers_come_from_cache(copy: Path) -> None:
    first = open_model(int8(copy))
    written = (copy / CACHE).stat().st_mtime_ns
    codes = [model_codes(first), model_codes(open_model(int8(copy)))]
    assert (copy / CACHE).stat().st_mtime_ns == written
    assert torch.equal(*codes)


def test_cache_of_another_revision_is_replaced(copy: Path) -> None:
    open_model(int8(copy))
    before = (copy / CACHE).read_bytes()
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config + "\n")
    open_model(int8(copy))
    assert (copy / CACHE).read_bytes() != before


@pytest.mark.parametrize("content", [b"", b"damaged"])
def test_damaged_cache_is_replaced(copy: Path, content: bytes) -> None:
    (copy / CACHE).write_bytes(content)
    open_model(int8(copy))
    assert len((copy / CACHE).read_bytes()) > 1000


def test_missing_cache_folder_rights_are_logged(copy: Path) -> None:
    (copy / CACHE).mkdir()  # in the way of the file, also for root
    with structlog.testing.capture_logs() as logs:
        open_model(int8(copy))
    assert any("can't be cached" in entry["event"] for entry in logs)


def test_int8_is_recommended_on_cpus(checkpoint: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        open_model(using(checkpoint))
    assert any("TORCH_DTYPE=int8" in entry["event"] for entry in logs)


def model_codes(model: object) -> Tensor:
    """Return the product of a talker's layer with fixed tokens."""
    layer = model.network.talker.layers[0]  # type: ignore[attr-defined]
    torch.manual_seed(2)
    found: Tensor = layer.down.multiply(torch.randn(2, tiny_checkpoint.TINY.intermediate))
    return found


@pytest.mark.slow
def test_logits_of_published_depth() -> None:
    """With random weights. Their logits are close to uniform, which makes the top code harder to keep."""
    torch.set_num_threads(1)
    talker = build_talker(dataclasses.replace(tiny_checkpoint.PUBLISHED, text_vocab=64), dtype=torch.float32)
    prompt, codes = given(talker)
    expected = logits_of_library(talker, prompt, codes)
    quantize_layers(talker)
    for mine, exact in zip(logits_of_ours(talker, prompt, codes), expected, strict=True):
        agreement = compare(mine, exact)
        assert agreement["cosine"] > 0.99
        assert agreement["kl"] < 0.005
        assert agreement["top_1"] > 0.7


def compare(mine: Tensor, exact: Tensor) -> dict[str, float]:
    """Return the least cosine, the mean KL divergence in nats, and the share of equal top codes."""
    mine, exact = mine.flatten(0, -2), exact.flatten(0, -2)
    divergence = torch.nn.functional.kl_div(
        mine.log_softmax(-1), exact.log_softmax(-1), reduction="batchmean", log_target=True
    )
    return {
        "cosine": float(torch.cosine_similarity(mine, exact, dim=-1).min()),
        "kl": float(divergence),
        "top_1": float((mine.argmax(-1) == exact.argmax(-1)).float().mean()),
    }
