"""The frame without a GPU: no host reads, few operations, no data outside of its slots."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_runner.engines.qwen.checkpoint.model import Model
from gpu_runner.engines.qwen.network.frame import FrameSize, Status, make_frame
from gpu_runner.engines.qwen.network.graph_sizes import PREFILL_TOKENS, GraphSizes
from gpu_runner.engines.qwen.network.network import LEAST_FRAMES, Network
from gpu_runner.engines.qwen.network.slots import allocate
from gpu_runner.engines.qwen.prompts import QwenPrompt
from tests.qwen.stages import DRAWN, WIDE, FakeGraphs, RowRunner, ending_at_once, row, run_rows

# Kernels that a frame of the published depth takes at most, before any are fused.
MOST_OPERATIONS = 2_790
VIEWS = {
    "view",
    "slice",
    "select",
    "split",
    "expand",
    "unsqueeze",
    "squeeze",
    "transpose",
    "t",
    "permute",
    "unbind",
}
READS = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "unique"}
COPIES = {"_to_copy", "to"}


class Operations(TorchDispatchMode):
    """Counts the operations on the device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()
        self.moved: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[function.overloadpacket.__name__] += 1
        device = (kwargs or {}).get("device")
        if device is not None and function.overloadpacket.__name__ in COPIES and device != args[0].device:
            self.moved.append(str(function))
        return function(*args, **(kwargs or {}))

    @property
    def kernels(self) -> int:
        return sum(count for name, count in self.counts.items() if name not in VIEWS)


@pytest.fixture
def in_frame(model: Model, x_vector: QwenPrompt) -> Callable[..., Operations]:
    def count(sampling: Any, rows: int = 1) -> Operations:
        runner = RowRunner(model, length=256)
        runner.admit(*[row(model, x_vector, str(number), sampling=sampling) for number in range(rows)])
        with torch.no_grad(), Operations() as operations:
            make_frame(model.network, runner.slots, FrameSize(rows, 256, few=sampling.few_are_enough))
        counted: Operations = operations
        return counted

    return count


def test_frame_operations_and_host_reads(in_frame: Callable[..., Operations]) -> None:
    operations = in_frame(DRAWN)
    assert (
        operations.counts["scaled_dot_product_attention"]
        + operations.counts["_scaled_dot_product_flash_attention_for_cpu"]
        == 28 + 15 * 5
    )
    assert operations.kernels <= MOST_OPERATIONS, operations.counts.most_common(30)
    assert not operations.counts.keys() & READS
    assert operations.moved == []


def test_frame_operations_independent_of_rows(in_frame: Callable[..., Operations]) -> None:
    assert in_frame(DRAWN, rows=4).kernels <= in_frame(DRAWN).kernels + 280  # copies of what lies apart


def test_exact_sampling_has_no_host_reads(in_frame: Callable[..., Operations]) -> None:
    assert not in_frame(WIDE).counts.keys() & READS


def shallow(network: Network) -> Network:
    """A network with a layer of each kind, which is compiled in seconds."""
    return network._replace(
        talker=network.talker._replace(layers=network.talker.layers[:2]),
        predictor=network.predictor._replace(layers=network.predictor.layers[:1]),
    )


@pytest.mark.filterwarnings("ignore")  # of torch itself
@pytest.mark.parametrize("few", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_frame_compiles_as_one_graph(model: Model, few: bool) -> None:
    network = shallow(model.network)
    slots, same = allocate(network, 2, 256), allocate(network, 2, 256)
    for one in (slots, same):
        one.running.fill_(True)
        one.cap.fill_(10)
        one.numbers.uniform_(generator=torch.Generator().manual_seed(1))
    graph = torch.compile(make_frame, fullgraph=True, backend="eager", dynamic=False)
    with torch.no_grad():
        for _ in range(3):
            graph(network, slots, FrameSize(2, 256, few))
            make_frame(network, same, FrameSize(2, 256, few))
            assert torch.equal(slots.report, same.report)
    torch._dynamo.reset()


def test_minimum_of_two_frames(model: Model, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(model.__dict__, "network", ending_at_once(model.network))
    mine = row(model, x_vector)
    assert run_rows(model, mine).statuses == {mine.job_id: Status.STOPPED}
    assert len(mine.codes) == LEAST_FRAMES


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize("lag", [0, 1, 3])
def test_cap_ends_endless_row(model: Model, x_vector: QwenPrompt, lag: int) -> None:
    short, long = row(model, x_vector, "a", cap=3), row(model, x_vector, "b", cap=9)
    assert run_rows(model, short, long, lag=lag).statuses == dict.fromkeys("ab", Status.LENGTH_CAPPED)
    assert (len(short.codes), len(long.codes)) == (3, 9)


def test_nan_ends_only_its_row(model: Model, x_vector: QwenPrompt) -> None:
    hostile = QwenPrompt(x_vector.identity, "", torch.full_like(x_vector.speaker, torch.nan), None, None)
    good, alone, next_one = row(model, x_vector, "good"), row(model, x_vector, "good"), row(model, x_vector, "good")
    runner = RowRunner(model)
    runner.admit(row(model, hostile, "bad"), good)
    runner.advance()
    assert runner.statuses == {"bad": Status.NOT_FINITE}
    runner.admit(next_one)
    assert next_one.slot == 0  # where the broken one was
    runner.finish()
    run_rows(model, alone)
    assert good.codes == next_one.codes == alone.codes


def test_rows_with_different_sampling(model: Model, x_vector: QwenPrompt) -> None:
    ways = {"greedy": row(model, x_vector).sampling, "drawn": DRAWN, "wide": WIDE}
    together = {name: row(model, x_vector, "Same.", sampling=way, job_id=name) for name, way in ways.items()}
    run_rows(model, *together.values())
    for name, way in ways.items():
        alone = row(model, x_vector, "Same.", sampling=way)
        run_rows(model, alone)
        assert together[name].codes == alone.codes
    assert len({str(one.codes[:5]) for one in together.values()}) == 3


def test_only_captured_sizes_run(model: Model, x_vector: QwenPrompt, in_context: QwenPrompt) -> None:
    voices = [(x_vector, DRAWN), (in_context, WIDE)] * 3
    rows = [row(model, voice, str(n), cap=5 + n, sampling=way) for n, (voice, way) in enumerate(voices)]
    runner = RowRunner(model, slots=6, length=512, lag=1, graphs=True)
    with torch.inference_mode():
        runner.generator.capture()
    assert isinstance(runner.runner, FakeGraphs)
    captured = set(runner.runner.functions)
    runner.runner.runs.clear()
    runner.admit(*rows[:3])
    runner.advance()
    runner.admit(*rows[3:])
    runner.finish()
    assert set(runner.runner.runs) <= captured
    assert {key.batch for key in runner.runner.runs if isinstance(key, FrameSize)} == {4, 6}


@pytest.mark.parametrize(
    ("lengths", "shape"),
    [
        ([10], (1, 64)),
        ([64], (1, 64)),
        ([65, 12], (2, 128)),
        ([100] * 4, (4, 128)),
        ([100] * 5, None),
        ([900], (1, 1024)),
    ],
)
def test_prefill_size_within_budget(lengths: list[int], shape: tuple[int, int] | None) -> None:
    sizes = GraphSizes.for_graphs(128, 2048)
    assert sizes.prefill(lengths) == shape
    assert shape is None or shape[0] == 1 or shape[0] * shape[1] <= PREFILL_TOKENS
    assert shape is None or shape in sizes.prefills()


def test_graph_sizes_end_at_slots_and_length() -> None:
    sizes = GraphSizes.for_graphs(40, 2048)
    assert sizes.frame_rows == [1, 2, 4, 8, 16, 32, 40]
    assert sizes.frame_lengths == [256, 512, 1024, 2048]
