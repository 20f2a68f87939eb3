"""The engine's interface: pieces, long texts, options, and failures."""

import dataclasses
import gc
import itertools
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from gpu_runner.engines import CannotLoad, Engine, EngineLost, Piece, Reproducible, Utterance
from gpu_runner.engines.qwen import job as job_module
from gpu_runner.engines.qwen import load
from gpu_runner.engines.qwen.checkpoint.model import FRAME_SAMPLES, LONGEST_SEQUENCE, SAMPLE_RATE, Model
from gpu_runner.engines.qwen.engine import QwenEngine
from gpu_runner.engines.qwen.prompts import QwenPrompt
from gpu_runner.engines.qwen.text import parts_of
from pipeline.contract.records import Options
from pipeline.errors import InvalidInput, SynthesisFailed, Unavailable
from pipeline.settings import Settings
from tests.qwen.conftest import greedy
from tests.qwen.stages import FailingRunner, allocating, ending_at_once, out_of_memory, synthesize_at_once
from tests.support.engines import EngineOutput, OutputCollector, synthesize

LONG = "This is one sentence of a text that is far too long to be spoken in one go. " * 12


def alike(mine: EngineOutput, other: EngineOutput) -> bool:
    """Compare audio. The codec rounds differently in batches of different sizes."""
    return len(mine.samples) == len(other.samples) and bool(np.abs(mine.samples - other.samples).max() < 1e-3)


def failing(model: Model, *errors: Exception | None, capacity: int = 4, **how: bool) -> QwenEngine:
    """Return an engine with a failing device. Its first run is a prefill, each later one a frame."""
    codes = FailingRunner(iter(errors), **how)
    return QwenEngine(lambda: model, capacity=capacity, model="tiny", allocate=allocating(codes=codes))


def test_engine_interface(engine: QwenEngine) -> None:
    it: Engine = engine
    assert (it.sample_rate, it.capacity) == (24_000, 4)
    assert list(it.step()) == []


def test_mixed_batch_equals_single_runs(engine: QwenEngine, in_context: QwenPrompt, x_vector: QwenPrompt) -> None:
    utterances = [
        Utterance("a", "The first one.", in_context, greedy(language="English")),
        Utterance("b", "第二个。", x_vector, greedy(language="Chinese")),
        Utterance("c", "Третий.", x_vector, greedy(language="Russian", seed=1, temperature=0.9)),
        Utterance("d", "Four.", in_context, greedy(max_seconds=2)),
        Utterance("e", "Five has to wait for a slot.", x_vector, greedy(top_p=0.5)),
    ]
    together = synthesize(engine, *utterances)
    for utterance in utterances:
        assert alike(together[utterance.job_id], synthesize(engine, utterance)[utterance.job_id])
    assert len({heard.samples.tobytes() for heard in together.values()}) == len(utterances)


def test_seed_or_job_id_determines_audio(engine: QwenEngine, model: Model, x_vector: QwenPrompt) -> None:
    options = [Options(seed=1, max_seconds=1), Options(seed=1, max_seconds=1), Options(max_seconds=1)]
    first = [Utterance(str(n), "Same text.", x_vector, option) for n, option in enumerate(options)]
    other = Utterance("3", "Same text.", x_vector, Options(max_seconds=1))
    done = synthesize(engine, *first, other)
    again = synthesize(QwenEngine(lambda: model, capacity=1, model="tiny"), first[2], first[0])
    assert alike(done["0"], done["1"])
    assert alike(done["0"], again["0"])
    assert alike(done["2"], again["2"])
    assert not alike(done["2"], done["3"])


def test_reproducible_as_depends_on_model(model: Model) -> None:
    engine = QwenEngine(lambda: model, capacity=1, model="tiny")
    assert isinstance(engine, Reproducible)
    assert engine.reproducible_as is None  # nothing is loaded for it
    assert engine.loaded.reproducible_as is not None
    assert engine.reproducible_as == engine.loaded.reproducible_as

    def name(**changes: object) -> str | None:
        return dataclasses.replace(model, **changes).reproducible_as

    identity = dataclasses.replace(model.identity, revision="another")
    defaults = dataclasses.replace(model.defaults, repetition_penalty=1.2)
    names = {name(), name(identity=identity), name(defaults=defaults)}
    assert names >= {engine.reproducible_as}
    assert len(names) == 3
    assert name(dtype=torch.bfloat16) is None


@pytest.mark.usefixtures("endless")
def test_first_piece_after_four_frames(
    model: Model, engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.admit(Utterance("a", "A text.", x_vector, greedy(max_seconds=2)))
    arrivals = []
    for step in range(1, 1000):
        events = engine.step()
        arrivals += [step for event in events if isinstance(event, Piece)]
        if len(events) > 0 and not isinstance(events[-1], Piece):
            break
    assert arrivals[0] <= 4 + 1  # the text is tokenized during one
    assert len(arrivals) >= 6  # 25 frames
    assert max(later - earlier for earlier, later in itertools.pairwise(arrivals)) <= 4


@pytest.mark.usefixtures("endless")
def test_long_text_generated_in_parallel_parts(
    engine: QwenEngine, model: Model, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "CAP_SECONDS", 0.5)
    monkeypatch.setattr(job_module, "CAP_FACTOR", 0.0)
    long = Utterance("long", LONG, x_vector, Options(seed=3))
    done = synthesize(engine, long, Utterance("short", "Hi.", x_vector, greedy()))
    alone = synthesize(QwenEngine(lambda: model, capacity=1, model="tiny"), long)
    assert alike(done["long"], alone["long"])
    parts = parts_of(LONG.strip(), "Auto")
    pauses = sum(part.pause for part in parts)
    assert len(parts) >= 3
    # Six frames a part, less the silence that they start with.
    length = len(done["long"].samples)
    assert pauses * SAMPLE_RATE < length <= len(parts) * 6 * FRAME_SAMPLES + round(pauses * SAMPLE_RATE)
    assert len(done["long"].warnings) == 1


@pytest.mark.usefixtures("endless")
def test_short_text_precedes_long_text(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "CAP_SECONDS", 0.5)
    monkeypatch.setattr(job_module, "CAP_FACTOR", 0.0)
    engine.admit(Utterance("long", LONG * 4, x_vector, Options(temperature=0)))
    engine.admit(Utterance("short", "Hi.", x_vector, greedy()))
    collector = OutputCollector()
    assert next(job_id for _ in range(1000) for job_id in collector.collect(engine.step())) == "short"
    engine.cancel("long")


@pytest.mark.usefixtures("endless")
def test_max_seconds_cuts_with_warning(engine: QwenEngine, x_vector: QwenPrompt) -> None:
    done = synthesize(engine, Utterance("a", LONG, x_vector, Options(max_seconds=1, seed=1)))["a"]
    assert len(done.samples) == SAMPLE_RATE
    assert done.warnings == ("The speech was cut off after 1 s, as max_seconds asks.",)
    assert abs(done.samples[-1]) < 1e-6


@pytest.mark.usefixtures("endless")
def test_endless_speech_is_capped_with_warning(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "CAP_SECONDS", 0.3)
    done = synthesize(engine, Utterance("a", "Three words long.", x_vector, Options(temperature=0)))["a"]
    letters = len("Threewordslong.")
    assert len(done.samples) / FRAME_SAMPLES == round((0.3 + 3 * letters * 0.075) * 12.5)
    assert "did not end by itself" in done.warnings[0]
    assert done.seconds > 0


def test_too_long_reference_rejected(engine: QwenEngine, in_context: QwenPrompt) -> None:
    assert in_context.codes is not None
    endless = dataclasses.replace(in_context, codes=in_context.codes.repeat(50, 1))
    with pytest.raises(InvalidInput, match=r"recording has 128 s. With this text the model accepts at most \d+ s"):
        engine.admit(Utterance("a", LONG, endless, Options()))


def test_text_too_long_for_non_streaming_mode(engine: QwenEngine, in_context: QwenPrompt) -> None:
    assert in_context.codes is not None
    room = LONGEST_SEQUENCE - job_module.PROMPT_TOKENS - job_module.cap_of(LONG)
    prompt = dataclasses.replace(in_context, codes=in_context.codes.repeat(60, 1)[:room])
    done = synthesize(engine, Utterance("a", LONG, prompt, Options(non_streaming_mode=True)))["a"]
    assert isinstance(done.error, InvalidInput)
    assert done.error.field == "non_streaming_mode"
    assert engine.step() == []


def test_untokenizable_text_fails_alone(
    engine: QwenEngine, model: Model, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = type(model).tokens

    def picky(self: Model, text: str) -> list[int]:
        if text == "Hm.":
            raise ValueError("what is this?")
        return works(self, text)

    monkeypatch.setattr(type(model), "tokens", picky)
    done = synthesize(
        engine, Utterance("bad", "Hm.", x_vector, greedy()), Utterance("good", "Hi.", x_vector, greedy())
    )
    assert isinstance(done["bad"].error, SynthesisFailed)
    assert len(done["good"].samples) > 0


@pytest.mark.usefixtures("endless")
def test_cancelled_job_returns_nothing(engine: QwenEngine, x_vector: QwenPrompt) -> None:
    collector = OutputCollector()
    for name in ("a", "b", "c"):
        engine.admit(Utterance(name, f"The text of {name}.", x_vector, greedy(max_seconds=2)))
    for _ in range(8):
        collector.collect(engine.step())  # all three are being spoken
    assert set(collector.pieces) == {"a", "b", "c"}
    spoken = len(collector.pieces["b"])
    engine.cancel("b")
    engine.cancel("unheard of")
    for _ in range(100):
        collector.collect(engine.step())
    assert set(collector.results) == {"a", "c"}
    assert len(collector.pieces["b"]) == spoken
    alone = synthesize(engine, Utterance("a", "The text of a.", x_vector, greedy(max_seconds=2)))
    assert alike(collector.results["a"], alone["a"])
    assert engine.step() == []


def test_cancel_frees_slot(model: Model, x_vector: QwenPrompt) -> None:
    engine = QwenEngine(lambda: model, capacity=1, model="tiny")
    engine.admit(Utterance("a", "Somewhat longer.", x_vector, greedy(max_seconds=2)))
    for _ in range(3):
        engine.step()
    engine.cancel("a")
    assert len(synthesize(engine, Utterance("b", "Hi.", x_vector, greedy()))["b"].samples) > 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_out_of_memory_reduces_batch(engine: QwenEngine, model: Model, x_vector: QwenPrompt, after: bool) -> None:
    utterances = [Utterance(name, f"Number {name}.", x_vector, greedy()) for name in "abcd"]
    expected = synthesize(engine, *utterances)
    short = failing(model, *[None] * 6, out_of_memory(), *[None] * 4, out_of_memory(), after=after)
    done = synthesize_at_once(short, *utterances)
    assert short.scheduler.limit == 1
    for name in "abcd":
        assert alike(done[name], expected[name])


def test_out_of_memory_in_prefill_requeues(engine: QwenEngine, model: Model, x_vector: QwenPrompt) -> None:
    utterances = [Utterance(name, f"Number {name}.", x_vector, greedy()) for name in "abcd"]
    expected = synthesize(engine, *utterances)
    short = failing(model, out_of_memory())
    done = synthesize_at_once(short, *utterances)
    assert short.scheduler.limit < 4
    for name in "abcd":
        assert alike(done[name], expected[name])


@pytest.mark.parametrize("frames", [0, 1, 3])
def test_single_row_out_of_memory_fails(model: Model, x_vector: QwenPrompt, frames: int) -> None:
    engine = failing(model, *[None] * frames, out_of_memory())
    assert isinstance(synthesize(engine, Utterance("a", "Hi.", x_vector, greedy()))["a"].error, Unavailable)
    assert len(synthesize(engine, Utterance("b", "Hi.", x_vector, greedy()))["b"].samples) > 0


def test_batch_grows_after_shortage(model: Model, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_runner.engines.qwen.scheduler.GROW_AFTER", 2)
    engine = failing(model, None, out_of_memory())
    synthesize(engine, *[Utterance(name, "Hi.", x_vector, greedy(max_seconds=1)) for name in "abcdefgh"])
    assert engine.scheduler.limit == 4


def test_decoder_halves_batch_out_of_memory(engine: QwenEngine, model: Model, x_vector: QwenPrompt) -> None:
    utterances = [Utterance(name, "Number four.", x_vector, greedy(seed=1)) for name in "abcd"]
    expected = synthesize(engine, *utterances)
    runner = FailingRunner(iter([out_of_memory(), None, out_of_memory()]))
    short = QwenEngine(lambda: model, capacity=4, model="tiny", allocate=allocating(samples=runner))
    done = synthesize_at_once(short, *utterances)
    for name in "abcd":
        assert alike(done[name], expected[name])


def test_decoder_single_row_out_of_memory(model: Model, x_vector: QwenPrompt) -> None:
    runner = FailingRunner(iter([out_of_memory()]))
    engine = QwenEngine(lambda: model, capacity=4, model="tiny", allocate=allocating(samples=runner))
    assert isinstance(synthesize(engine, Utterance("a", "Hi.", x_vector, greedy()))["a"].error, Unavailable)
    assert len(synthesize(engine, Utterance("b", "Hi.", x_vector, greedy()))["b"].samples) > 0


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: unspecified launch failure"),
        RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx"),
    ],
)
@pytest.mark.parametrize("frames", [0, 1])
def test_lost_device_raises_engine_lost(model: Model, x_vector: QwenPrompt, frames: int, error: Exception) -> None:
    engine = failing(model, *[None] * frames, error)
    engine.admit(Utterance("a", "Hi.", x_vector, greedy()))
    with pytest.raises(EngineLost, match=r"^The device is lost: "):
        engine.step()


def test_other_error_is_not_engine_lost(model: Model, x_vector: QwenPrompt) -> None:
    engine = failing(model, None, RuntimeError("The size of tensor a (3) must match"))
    engine.admit(Utterance("a", "Hi.", x_vector, greedy()))
    with pytest.raises(RuntimeError, match="must match"):
        engine.step()
    assert engine.step() == []  # lost, as the interface has it: it doesn't come back


@pytest.mark.parametrize("lag", [1, 3])
def test_lag_does_not_change_audio(
    engine: QwenEngine, model: Model, in_context: QwenPrompt, x_vector: QwenPrompt, lag: int
) -> None:
    utterances = [
        Utterance("a", "Four, four.", in_context, greedy(max_seconds=2)),
        Utterance("b", "One.", in_context, greedy(max_seconds=2)),
        Utterance("c", LONG, x_vector, greedy(max_seconds=2)),
    ]
    expected = synthesize(engine, *utterances)
    behind = QwenEngine(lambda: model, capacity=4, model="tiny", allocate=allocating(lag=lag, graphs=True))
    done = synthesize(behind, *utterances)
    for utterance in utterances:
        assert alike(done[utterance.job_id], expected[utterance.job_id])


def test_voice_warnings_in_every_preview(engine: QwenEngine, x_vector: QwenPrompt) -> None:
    doubtful = dataclasses.replace(x_vector, warnings=("Something about the transcription.",))
    done = synthesize(engine, Utterance("a", "Hi.", doubtful, greedy(max_seconds=1)))["a"]
    assert done.warnings[0] == "Something about the transcription."


@pytest.mark.parametrize("text", ["", "  \n", "<|im_end|><tts_pad>", "…!?", "\x00\x01"])
def test_text_without_words_rejected(engine: QwenEngine, x_vector: QwenPrompt, text: str) -> None:
    with pytest.raises(InvalidInput, match="contains nothing that can be spoken"):
        engine.admit(Utterance("bad", text, x_vector, greedy()))
    assert set(synthesize(engine, Utterance("good", "Hi.", x_vector, greedy()))) == {"good"}


def test_unknown_language_rejected(engine: QwenEngine, x_vector: QwenPrompt) -> None:
    options = Options.model_construct(language="Klingon")
    with pytest.raises(InvalidInput, match="does not speak Klingon, only Auto, Chinese, English"):
        engine.admit(Utterance("bad", "nuqneH", x_vector, options))


def test_prompt_of_other_model_rejected(engine: QwenEngine, x_vector: QwenPrompt) -> None:
    other = dataclasses.replace(x_vector, identity=dataclasses.replace(x_vector.identity, model="other"))
    with pytest.raises(InvalidInput, match="belongs to another model"):
        engine.admit(Utterance("bad", "Hi.", other, greedy()))


def test_nan_voice_fails_alone(engine: QwenEngine, x_vector: QwenPrompt, in_context: QwenPrompt) -> None:
    broken = dataclasses.replace(x_vector, speaker=torch.full_like(x_vector.speaker, torch.nan))
    done = synthesize(
        engine, Utterance("bad", LONG, broken, greedy()), Utterance("good", "Hi.", in_context, greedy())
    )
    assert isinstance(done["bad"].error, SynthesisFailed)
    assert len(done["good"].samples) > 0


def test_model_loads_at_start_or_first_job(
    settings: Settings, model: Model, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def opening(_: Settings, __: object) -> Model:
        opened.append("now")
        return model

    monkeypatch.setattr("gpu_runner.engines.qwen.open_model", opening)
    eager = load(settings)
    assert opened == ["now"]
    assert eager.step() == []  # what it said to warm up is not heard
    lazy = load(settings.model_copy(update={"preload_model_on_startup": False}))
    assert opened == ["now"]
    assert lazy.capacity == settings.worker_batch_size
    assert lazy.model == model.identity.model  # by its name, not by where it lies
    assert len(synthesize(lazy, Utterance("a", "Hi.", x_vector, greedy()))["a"].samples) > 0
    assert opened == ["now", "now"]


def test_failing_warm_up_is_cannot_load(settings: Settings, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_runner.engines.qwen.open_model", lambda _, __: model)
    errors = iter([out_of_memory()])
    monkeypatch.setattr("gpu_runner.engines.qwen.allocation.Runner", lambda: FailingRunner(errors))
    with pytest.raises(CannotLoad, match="can't synthesize: The device has too little memory"):
        load(settings)


def test_no_memory_for_one_row_is_cannot_load(
    settings: Settings, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu_runner.engines.qwen.open_model", lambda _, __: model)
    monkeypatch.setattr("gpu_runner.engines.qwen.allocation.free_memory", lambda device: 1 << 20)
    with pytest.raises(CannotLoad, match=r"cpu has 0.00 GiB free after loading the model, and one text needs"):
        load(settings)


def test_slots_limited_by_memory(model: Model, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_runner.engines.qwen.allocation.free_memory", lambda device: 48 << 20)
    engine = QwenEngine(lambda: model, capacity=8, model="tiny")
    assert engine.stages.generator.free == 2
    done = synthesize(engine, *[Utterance(name, "Hi.", x_vector, greedy()) for name in "abcde"])
    assert all(len(heard.samples) > 0 for heard in done.values())


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_constant_over_1000_utterances(
    model: Model, x_vector: QwenPrompt, in_context: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(model.__dict__, "network", ending_at_once(model.network))
    engine = QwenEngine(lambda: model, capacity=16, model="tiny")
    numbers = itertools.count()

    def speak_some(count: int) -> None:
        for _ in range(count // 16):
            batch = [
                Utterance(str(next(numbers)), "Hi.", prompt, greedy()) for prompt in [x_vector, in_context] * 8
            ]
            assert all(heard.error is None for heard in synthesize(engine, *batch).values())

    speak_some(300)
    gc.collect()
    before = resident_bytes()
    speak_some(1000)
    gc.collect()
    assert resident_bytes() - before < 16 << 20  # 16 KiB each
