"""Memory and graphs of the generator and the decoder."""

from collections.abc import Callable, Hashable

import pytest
import structlog
import torch

from gpu_runner.engines import CannotLoad
from gpu_runner.engines.qwen import allocation
from gpu_runner.engines.qwen.allocation import Stages, allocate_stages, build_stages
from gpu_runner.engines.qwen.checkpoint.model import Model
from gpu_runner.engines.qwen.network.graph_sizes import GraphSizes
from gpu_runner.engines.qwen.network.graphs import Runner, captured_or_none
from tests.qwen.stages import out_of_memory


class LargestBatchRunner(Runner):
    """Captures nothing, or runs out of memory."""

    captures = True

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails

    def run(self, key: Hashable, function: Callable[[], None]) -> None:
        if self.fails:
            raise out_of_memory()


def fitting(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Let graphs fit into memory for this number of rows."""

    def stages_of(model: Model, slots: int, wrap: object) -> Stages:
        return build_stages(model, slots, Runner(), LargestBatchRunner(fails=slots > rows))

    monkeypatch.setattr(allocation, "_stages_of", stages_of)


def test_out_of_memory_in_capture_halves_rows(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    fitting(monkeypatch, 3)
    with structlog.testing.capture_logs() as logs:
        assert allocate_stages(model, 8).generator.free == 2
    assert [entry["now"] for entry in logs if entry["event"] == "out of memory, allocating fewer rows"] == [4, 2]


def test_out_of_memory_for_one_row_is_cannot_load(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    fitting(monkeypatch, 0)
    with pytest.raises(CannotLoad, match="cpu has too little memory for one text"):
        allocate_stages(model, 4)


def test_failed_capture_runs_without_graph() -> None:
    def capture() -> str:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    with structlog.testing.capture_logs() as logs:
        assert captured_or_none(("frame", 8), capture) is None
    assert [(entry["key"], entry["reason"]) for entry in logs] == [
        ("('frame', 8)", "operation not permitted when stream is capturing")
    ]


def test_out_of_memory_in_capture_is_raised() -> None:
    def capture() -> str:
        raise out_of_memory()

    with pytest.raises(torch.OutOfMemoryError):
        captured_or_none("frame", capture)


def test_codec_graphs_up_to_slots() -> None:
    assert GraphSizes.for_graphs(6, 2048).codec_rows == [1, 2, 4, 6]
    assert GraphSizes.for_graphs(100, 2048).codec_rows == [1, 2, 4, 8, 16, 32]
