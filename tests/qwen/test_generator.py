"""Rows with different options in one batch, among slots that rows have left."""

from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gpu_runner.engines.qwen.checkpoint.model import Model
from gpu_runner.engines.qwen.job import Row
from gpu_runner.engines.qwen.network.sampling import Sampling
from gpu_runner.engines.qwen.prompts import QwenPrompt
from tests.qwen.stages import RowRunner, row, run_rows

OPTIONS = [
    Sampling(),
    Sampling(temperature=0, subtalker_temperature=0),
    Sampling(top_k=0),
    Sampling(top_k=100),
    Sampling(top_k=4096),
    Sampling(top_p=0.5),
    Sampling(subtalker_top_k=1000),
]
SLOTS = 3

Request = tuple[int, int]  # an index of OPTIONS, and a number of frames
Schedule = list[Request | int]  # requests to admit, and numbers of frames to generate


def _row(model: Model, prompt: QwenPrompt, request: Request) -> Row:
    return row(model, prompt, "Hi.", sampling=OPTIONS[request[0]], cap=request[1])


def run(model: Model, prompt: QwenPrompt, schedule: Schedule, **how: Any) -> list[tuple[Request, Row]]:
    runner = RowRunner(model, slots=SLOTS, length=256, **how)
    rows = []
    for item in schedule:
        if isinstance(item, int):
            for _ in range(item):
                runner.advance()
        elif runner.generator.free:
            rows.append((item, _row(model, prompt, item)))
            runner.admit(rows[-1][1])
    runner.finish()
    return rows


def check(model: Model, prompt: QwenPrompt, schedule: Schedule, **how: Any) -> None:
    """Each row must have the codes that it has alone."""

    @cache
    def alone(request: Request) -> list[list[int]]:
        one = _row(model, prompt, request)
        run_rows(model, one)
        return one.codes

    for request, one in run(model, prompt, schedule, **how):
        assert one.codes == alone(request)


@pytest.mark.parametrize("stale", range(len(OPTIONS)))
@pytest.mark.usefixtures("endless")
def test_default_row_above_ended_row(model: Model, x_vector: QwenPrompt, stale: int) -> None:
    check(model, x_vector, [(stale, 2), (0, 6)])


SCHEDULES = st.lists(
    st.one_of(
        st.tuples(st.integers(0, len(OPTIONS) - 1), st.integers(2, 6)),
        st.integers(1, 4),
    ),
    max_size=10,
)


@pytest.mark.slow
@pytest.mark.usefixtures("endless")
@hypothesis_settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(schedule=SCHEDULES, lag=st.integers(0, 3), graphs=st.booleans())
def test_mixed_options_in_any_schedule(
    model: Model, x_vector: QwenPrompt, schedule: Schedule, lag: int, graphs: bool
) -> None:
    check(model, x_vector, schedule, lag=lag, graphs=graphs)
