"""Codes and samples are the library's: greedy codes token for token, samples within rounding."""

import contextlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gpu_runner.engines.qwen.checkpoint.model import FRAME_SAMPLES, Model
from gpu_runner.engines.qwen.job import Row
from gpu_runner.engines.qwen.network.frame import Status
from gpu_runner.engines.qwen.prompts import QwenPrompt
from tests.qwen.stages import DRAWN, WIDE, RowRunner, poison, row, run_rows

LONG = "A text with many more words than the reference has frames, so that it is read while it is runner."
CAP = 24
CASES = [
    ("in_context", "Hi", "Auto"),
    ("in_context", "Four, four.", "German"),
    ("x_vector", "Guten Tag.", "German"),
    ("x_vector", LONG, "English"),
    ("long_reference", "One.", "Auto"),
    ("long_reference", LONG, "Chinese"),
]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def library(checkpoint: Path) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        from qwen_tts import Qwen3TTSModel
    return Qwen3TTSModel.from_pretrained(str(checkpoint))


@contextlib.contextmanager
def decoding(library: Any) -> Iterator[list[torch.Tensor]]:
    """Listen to the codes that the library decodes."""
    heard: list[torch.Tensor] = []
    tokenizer = library.model.speech_tokenizer
    works = tokenizer.decode

    def listening(codes: Any) -> Any:
        heard.extend(one["audio_codes"] for one in codes)
        return works(codes)

    tokenizer.decode = listening
    try:
        yield heard
    finally:
        del tokenizer.decode


def codes_of_library(
    library: Any, prompt: QwenPrompt, text: str, language: str, cap: int, **more: Any
) -> list[list[int]]:
    """What the library says, until it ends by itself or has said `cap` frames."""
    from qwen_tts import VoiceClonePromptItem

    in_context = prompt.codes is not None
    item = VoiceClonePromptItem(prompt.codes, prompt.speaker, not in_context, in_context, prompt.transcript or None)
    with decoding(library) as heard:
        library.generate_voice_clone(
            text=text,
            language=language,
            voice_clone_prompt=[item],
            do_sample=False,
            subtalker_dosample=False,
            max_new_tokens=cap + 1,  # the last one's other codes are not predicted
            **more,
        )
    return heard[0][0 if prompt.codes is None else len(prompt.codes) :].tolist()


@pytest.fixture(scope="session")
def expected(library: Any, request: pytest.FixtureRequest) -> dict[tuple[str, str, str], list[list[int]]]:
    return {case: codes_of_library(library, request.getfixturevalue(case[0]), *case[1:], CAP) for case in CASES}


def rows_of(model: Model, request: pytest.FixtureRequest, **more: Any) -> list[Row]:
    return [
        row(model, request.getfixturevalue(voice), text, language=language, job_id=str(number), cap=CAP, **more)
        for number, (voice, text, language) in enumerate(CASES)
    ]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_single_row_equals_library(
    model: Model, expected: dict[tuple[str, str, str], list[list[int]]], request: pytest.FixtureRequest, number: int
) -> None:
    mine = rows_of(model, request)[number]
    runner = run_rows(model, mine)
    assert mine.codes == expected[CASES[number]]
    capped = len(mine.codes) == CAP
    assert runner.statuses[mine.job_id] == (Status.LENGTH_CAPPED if capped else Status.STOPPED)


@pytest.mark.parametrize("number", [1, 3, 4])
def test_non_streaming_mode_equals_library(
    model: Model, library: Any, request: pytest.FixtureRequest, number: int
) -> None:
    mine = rows_of(model, request, reads_ahead=True)[number]
    run_rows(model, mine)
    voice, text, language = CASES[number]
    prompt = request.getfixturevalue(voice)
    assert mine.codes == codes_of_library(library, prompt, text, language, CAP, non_streaming_mode=True)


def test_cases_end_in_both_ways(expected: dict[tuple[str, str, str], list[list[int]]]) -> None:
    lengths = [len(codes) for codes in expected.values()]
    assert min(lengths) < CAP
    assert max(lengths) == CAP
    assert len({frame for codes in expected.values() for frame in map(tuple, codes)}) > 0.9 * sum(lengths)


@pytest.mark.parametrize(("lag", "graphs"), [(0, False), (1, True), (3, True)])
def test_batch_equals_library(
    model: Model,
    expected: dict[tuple[str, str, str], list[list[int]]],
    request: pytest.FixtureRequest,
    lag: int,
    graphs: bool,
) -> None:
    rows = rows_of(model, request)
    run_rows(model, *rows[:2], later=rows[2:], slots=len(rows), lag=lag, graphs=graphs)
    assert [one.codes for one in rows] == list(expected.values())


Action = tuple[str, int]
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(0, len(CASES) - 1)),
        st.tuples(st.just("cancel"), st.integers(0, 3)),
        st.tuples(st.just("advance"), st.integers(1, 6)),
    ),
    max_size=16,
)


def play(
    model: Model, request: pytest.FixtureRequest, actions: list[Action], lag: int, graphs: bool
) -> list[tuple[int, Row]]:
    """Admit, cancel and advance as told, with NaN in every slot that is free; give the rows that ended."""
    runner = RowRunner(model, slots=4, lag=lag, graphs=graphs)
    admitted: list[tuple[int, Row]] = []
    cancelled: set[int] = set()

    for kind, value in [*actions, ("advance", 1)]:
        for slot in set(range(4)) - {one.slot for one in runner.generator.rows}:
            poison(runner.slots, slot)
        if kind == "admit" and runner.generator.free:
            admitted.append((value, rows_of(model, request)[value]))
            runner.admit(admitted[-1][1])
        elif kind == "cancel" and runner.generator.rows:
            gone = runner.generator.rows[value % len(runner.generator.rows)]
            cancelled.add(id(gone))
            runner.generator.release(gone)
        elif kind == "advance":
            for _ in range(value):
                runner.advance()
    runner.finish()
    return [(number, one) for number, one in admitted if id(one) not in cancelled]


@pytest.mark.parametrize(
    "actions", [[("admit", 0), ("advance", 3), ("admit", 1), ("cancel", 0), ("admit", 5), ("admit", 3)]]
)
def test_fixed_schedule_with_nan_slots(
    model: Model,
    expected: dict[tuple[str, str, str], list[list[int]]],
    request: pytest.FixtureRequest,
    actions: list[Action],
) -> None:
    ended = play(model, request, actions, lag=1, graphs=True)
    assert [one.codes for _, one in ended] == [expected[CASES[number]] for number, _ in ended]
    assert len(ended) == 3


@pytest.mark.slow
@hypothesis_settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(actions=ACTIONS, lag=st.integers(0, 3), graphs=st.booleans())
def test_any_schedule_with_nan_slots(
    model: Model,
    expected: dict[tuple[str, str, str], list[list[int]]],
    request: pytest.FixtureRequest,
    actions: list[Action],
    lag: int,
    graphs: bool,
) -> None:
    for number, one in play(model, request, actions, lag, graphs):
        assert one.codes == expected[CASES[number]]


@pytest.mark.parametrize("sampling", [DRAWN, WIDE])
def test_sampling_independent_of_batch(model: Model, request: pytest.FixtureRequest, sampling: Any) -> None:
    together = rows_of(model, request, sampling=sampling)
    run_rows(model, *together[3:], later=together[:3], slots=len(together))
    for alone, beside in itertools.islice(
        zip(rows_of(model, request, sampling=sampling), together, strict=True), 3
    ):
        run_rows(model, alone)
        assert alone.codes == beside.codes


def test_row_continues_from_its_codes(
    model: Model, expected: dict[tuple[str, str, str], list[list[int]]], request: pytest.FixtureRequest
) -> None:
    for number, spoken in ((1, 1), (3, 9), (4, 5)):
        mine = rows_of(model, request)[number]
        mine.codes = expected[CASES[number]][:spoken]
        run_rows(model, mine)
        assert mine.codes == expected[CASES[number]]


def test_samples_equal_library(model: Model, library: Any, long_reference: QwenPrompt) -> None:
    assert long_reference.codes is not None
    assert len(long_reference.codes) > 72
    codes = torch.randint(
        0, model.codec.codebook_size, (40, model.codec.groups), generator=torch.Generator().manual_seed(1)
    )
    whole, _ = library.model.speech_tokenizer.decode([{"audio_codes": torch.cat([long_reference.codes, codes])}])
    with torch.inference_mode():
        state = model.codec.remember(long_reference.codes)[None]
        position = torch.tensor([len(long_reference.codes)])
        mine, _ = model.codec.decode(codes[None], state, position)
    theirs = torch.from_numpy(whole[0])[len(long_reference.codes) * FRAME_SAMPLES :]
    assert (mine[0] - theirs).pow(2).mean() < 1e-6 * theirs.pow(2).mean()  # -60 dB
