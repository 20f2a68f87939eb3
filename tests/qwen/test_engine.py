"""The engine as the worker sees it: batches, long texts, options, and an end to every failure."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from gpu_runner.engines import CannotLoad, Engine, EngineLost, Utterance
from gpu_runner.engines.qwen import engine as engine_module
from gpu_runner.engines.qwen import load
from gpu_runner.engines.qwen.engine import QwenEngine
from gpu_runner.engines.qwen.generation import Flight
from gpu_runner.engines.qwen.model import FRAME_SAMPLES, SAMPLE_RATE, Model
from gpu_runner.engines.qwen.prompts import QwenPrompt
from gpu_runner.engines.qwen.text import parts_of
from pipeline.audio.reference_audio import Samples
from pipeline.contract.records import Options
from pipeline.errors import InvalidInput, SynthesisFailed, Unavailable
from pipeline.settings import Settings
from tests.engines import Heard, Listener, speak
from tests.qwen.conftest import greedy

LONG = "This is one sentence of a text that is far too long to be spoken in one go. " * 12


def samples_of(heard: Heard) -> Samples:
    return heard.samples


def test_it_fits_the_seat(engine: QwenEngine) -> None:
    seat: Engine = engine
    assert (seat.sample_rate, seat.capacity) == (24_000, 4)
    assert seat.step() == []


def test_jobs_of_all_kinds_run_in_one_batch_each_as_if_alone(
    engine: QwenEngine, in_context: QwenPrompt, x_vector: QwenPrompt
) -> None:
    utterances = [
        Utterance("a", "The first one.", in_context, greedy(language="English")),
        Utterance("b", "第二个。", x_vector, greedy(language="Chinese")),
        Utterance("c", "Третий.", x_vector, greedy(language="Russian", seed=1, temperature=0.9)),
        Utterance("d", "Four.", in_context, greedy(max_seconds=2)),
        Utterance("e", "Five has to wait for a seat.", x_vector, greedy()),
    ]
    together = speak(engine, *utterances)
    for utterance in utterances:
        alone = speak(engine, utterance)[utterance.job_id]
        assert np.array_equal(samples_of(together[utterance.job_id]), samples_of(alone))
        assert samples_of(alone).dtype == np.float32
    assert len({samples_of(done).tobytes() for done in together.values()}) == len(utterances)


def test_a_seed_decides_and_without_one_the_jobs_id_does(
    engine: QwenEngine, model: Model, x_vector: QwenPrompt
) -> None:
    options = [Options(seed=1, max_seconds=1), Options(seed=1, max_seconds=1), Options(max_seconds=1)]
    first = [Utterance(str(n), "Same text.", x_vector, option) for n, option in enumerate(options)]
    other = Utterance("3", "Same text.", x_vector, Options(max_seconds=1))
    done = speak(engine, *first, other)
    again = speak(QwenEngine(lambda: model, capacity=1, model="tiny"), first[2], first[0])
    assert np.array_equal(done["0"].samples, done["1"].samples)
    assert np.array_equal(done["0"].samples, again["0"].samples)
    assert np.array_equal(done["2"].samples, again["2"].samples)
    assert not np.array_equal(done["2"].samples, done["3"].samples)


@pytest.mark.usefixtures("endless")
def test_a_long_text_is_spoken_in_parts_side_by_side(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "CAP_SECONDS", 0.5)
    monkeypatch.setattr(engine_module, "CAP_FACTOR", 0.0)
    done = speak(
        engine, Utterance("long", LONG, x_vector, Options(seed=3)), Utterance("short", "Hi.", x_vector, greedy())
    )
    alone = speak(engine, Utterance("long", LONG, x_vector, Options(seed=3)))["long"]
    samples = samples_of(done["long"])
    assert np.array_equal(samples, samples_of(alone))
    parts = parts_of(LONG.strip(), "Auto")
    pauses = sum(part.pause for part in parts)
    assert len(parts) >= 3
    # Six frames a part, less the silence that they start with.
    assert pauses * SAMPLE_RATE < len(samples) <= len(parts) * 6 * FRAME_SAMPLES + round(pauses * SAMPLE_RATE)
    assert len(done["long"].warnings) == 1


@pytest.mark.usefixtures("endless")
def test_a_long_text_gives_way_to_a_short_one(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "CAP_SECONDS", 0.5)
    monkeypatch.setattr(engine_module, "CAP_FACTOR", 0.0)
    engine.admit(Utterance("long", LONG * 4, x_vector, greedy()))
    engine.admit(Utterance("short", "Hi.", x_vector, greedy()))
    listener = Listener()
    assert next(job_id for _ in range(1000) for job_id in listener.listen(engine.step())) == "short"
    engine.cancel("long")


@pytest.mark.usefixtures("endless")
def test_max_seconds_is_kept_and_told(engine: QwenEngine, x_vector: QwenPrompt) -> None:
    done = speak(engine, Utterance("a", LONG, x_vector, Options(max_seconds=1, seed=1)))["a"]
    assert len(samples_of(done)) == SAMPLE_RATE
    assert done.warnings == ("The speech was cut off after 1 s, as max_seconds asks.",)
    assert abs(samples_of(done)[-1]) < 1e-6


@pytest.mark.usefixtures("endless")
def test_speech_that_does_not_end_is_capped_by_its_text_and_told(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "CAP_SECONDS", 0.3)
    done = speak(engine, Utterance("a", "Three words long.", x_vector, Options(temperature=0)))["a"]
    letters = len("Threewordslong.")
    assert len(samples_of(done)) / FRAME_SAMPLES == round((0.3 + 3 * letters * 0.075) * 12.5)
    assert "did not end by itself" in done.warnings[0]
    assert done.seconds > 0


def test_warnings_of_the_voice_come_with_every_preview(engine: QwenEngine, x_vector: QwenPrompt) -> None:
    doubtful = dataclasses.replace(x_vector, warnings=("Something about the transcription.",))
    done = speak(engine, Utterance("a", "Hi.", doubtful, greedy(max_seconds=1)))["a"]
    assert done.warnings[0] == "Something about the transcription."


@pytest.mark.parametrize("text", ["", "  \n", "<|im_end|><tts_pad>", "…!?", "\x00\x01"])
def test_nothing_to_say_is_refused_and_others_go_on(engine: QwenEngine, x_vector: QwenPrompt, text: str) -> None:
    with pytest.raises(InvalidInput, match="nothing that can be spoken"):
        engine.admit(Utterance("bad", text, x_vector, greedy()))
    assert set(speak(engine, Utterance("good", "Hi.", x_vector, greedy()))) == {"good"}


def test_a_language_that_the_model_was_not_taught_is_refused(engine: QwenEngine, x_vector: QwenPrompt) -> None:
    options = Options.model_construct(language="Klingon")
    with pytest.raises(InvalidInput, match="does not speak Klingon; it speaks Auto, Chinese, English"):
        engine.admit(Utterance("bad", "nuqneH", x_vector, options))


def test_a_prompt_of_another_model_is_refused(engine: QwenEngine, x_vector: QwenPrompt) -> None:
    other = dataclasses.replace(x_vector, identity=dataclasses.replace(x_vector.identity, model="other"))
    with pytest.raises(InvalidInput, match="not this model's"):
        engine.admit(Utterance("bad", "Hi.", other, greedy()))


def test_a_voice_that_breaks_the_numbers_fails_alone(
    engine: QwenEngine, x_vector: QwenPrompt, in_context: QwenPrompt
) -> None:
    broken = dataclasses.replace(x_vector, speaker=torch.full_like(x_vector.speaker, torch.nan))
    done = speak(engine, Utterance("bad", LONG, broken, greedy()), Utterance("good", "Hi.", in_context, greedy()))
    assert isinstance(done["bad"].error, SynthesisFailed)
    assert len(samples_of(done["good"])) > 0


def test_a_text_that_can_not_be_read_in_fails_alone(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Flight._read_in

    def picky(flight: Flight, row: Any) -> Any:
        if row.job_id == "bad":
            raise ValueError("what is this?")
        return build(flight, row)

    monkeypatch.setattr(Flight, "_read_in", picky)
    done = speak(engine, Utterance("bad", "Hm.", x_vector, greedy()), Utterance("good", "Hi.", x_vector, greedy()))
    assert isinstance(done["bad"].error, SynthesisFailed)
    assert len(samples_of(done["good"])) > 0


@pytest.mark.usefixtures("endless")
def test_what_is_cancelled_does_not_come_back(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "STEP_SECONDS", 0.0)
    for name in ("a", "b", "c"):
        engine.admit(Utterance(name, f"The text of {name}.", x_vector, greedy(max_seconds=2)))
    assert engine.step() == []  # all three are in flight
    engine.cancel("b")
    engine.cancel("unheard of")
    listener = Listener()
    for _ in range(1000):
        listener.listen(engine.step())
    rest = listener.heard
    assert set(rest) == {"a", "c"}
    alone = speak(engine, Utterance("a", "The text of a.", x_vector, greedy(max_seconds=2)))
    assert np.array_equal(samples_of(rest["a"]), samples_of(alone["a"]))
    assert engine.step() == []


def failing(errors: Iterator[Exception | None], monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Let the device fail in one of the flight's methods, once for each error."""
    works: Callable[..., Any] = getattr(Flight, method)

    def fails(flight: Flight, *arguments: Any) -> Any:
        error = next(errors, None)
        if error is not None:
            raise error
        return works(flight, *arguments)

    monkeypatch.setattr(Flight, method, fails)


def out_of_memory() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("where", ["_predict", "_talk"])
def test_out_of_memory_halves_the_batch_and_nobody_hears_of_it(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    utterances = [Utterance(name, f"Number {name}.", x_vector, greedy()) for name in "abcd"]
    expected = speak(engine, *utterances)
    failing(iter([None, None, out_of_memory(), None, out_of_memory()]), monkeypatch, where)
    done = speak(engine, *utterances)
    assert engine.rows_at_a_time == 1
    for name in "abcd":
        assert np.array_equal(samples_of(done[name]), samples_of(expected[name]))


def test_a_row_that_finds_no_room_waits_for_the_others(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterances = [Utterance(name, f"Number {name}.", x_vector, greedy()) for name in "abcd"]
    expected = speak(engine, *utterances)
    failing(iter([None, None, out_of_memory()]), monkeypatch, "_read_in")
    done = speak(engine, *utterances)
    assert engine.rows_at_a_time == 2
    for name in "abcd":
        assert np.array_equal(samples_of(done[name]), samples_of(expected[name]))


@pytest.mark.parametrize("where", ["_read_in", "_talk"])
def test_what_does_not_fit_even_alone_fails_alone(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    failing(iter([out_of_memory()]), monkeypatch, where)
    assert isinstance(speak(engine, Utterance("a", "Hi.", x_vector, greedy()))["a"].error, Unavailable)
    assert len(samples_of(speak(engine, Utterance("b", "Hi.", x_vector, greedy()))["b"])) > 0


def test_the_batch_grows_again_when_memory_suffices(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu_runner.engines.qwen.boarding.GROW_AFTER", 2)
    failing(iter([out_of_memory()]), monkeypatch, "_predict")
    utterances = [Utterance(name, "Hi.", x_vector, greedy(max_seconds=1)) for name in "abcd"]
    speak(engine, *utterances)
    assert engine.rows_at_a_time == 4


def test_sound_is_made_in_smaller_pieces_when_memory_is_short(
    model: Model, x_vector: QwenPrompt, engine: QwenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = model.codec.model.decoder
    works, tried = decoder.chunked_decode, []

    def fails_for_long(codes: torch.Tensor, chunk: int, context: int) -> torch.Tensor:
        tried.append(chunk)
        if chunk > 40:
            raise out_of_memory()
        return works(codes, chunk, context)  # type: ignore[no-any-return]

    monkeypatch.setattr(decoder, "chunked_decode", fails_for_long)
    assert len(samples_of(speak(engine, Utterance("a", "Hi.", x_vector, greedy()))["a"])) > 0
    assert tried == [300, 100, 40]
    monkeypatch.setattr(decoder, "chunked_decode", lambda *_: (_ for _ in ()).throw(out_of_memory()))
    assert isinstance(speak(engine, Utterance("a", "Hi.", x_vector, greedy()))["a"].error, Unavailable)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: unspecified launch failure"),
        RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx"),
    ],
)
@pytest.mark.parametrize("where", ["_read_in", "_talk"])
def test_a_lost_device_is_the_end_of_the_process(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    failing(iter([error]), monkeypatch, where)
    engine.admit(Utterance("a", "Hi.", x_vector, greedy()))
    with pytest.raises(EngineLost, match=r"^The device is lost: "):
        engine.step()


def test_an_error_of_our_own_is_not_mistaken_for_the_device(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(iter([RuntimeError("The size of tensor a (3) must match")]), monkeypatch, "_talk")
    engine.admit(Utterance("a", "Hi.", x_vector, greedy()))
    with pytest.raises(RuntimeError, match="must match"):
        engine.step()
    assert engine.step() == []  # lost, as the seat has it: it doesn't come back


def test_where_a_batch_changes_the_numbers_a_seed_flies_alone(
    model: Model, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounding = dataclasses.replace(model, dtype=torch.bfloat16)  # only said to be so
    engine = QwenEngine(lambda: rounding, capacity=4, model="tiny")
    crews: set[frozenset[str]] = set()
    advance = Flight.advance

    def watched(flight: Flight) -> Any:
        crews.add(frozenset(row.job_id for row in flight.rows))
        return advance(flight)

    monkeypatch.setattr(Flight, "advance", watched)
    chance, seeded = Options(max_seconds=1), Options(max_seconds=1, seed=1)
    for name, options in (("a", chance), ("b", chance), ("seeded", seeded), ("c", chance), ("d", chance)):
        engine.admit(Utterance(name, "Hi.", x_vector, options))
    listener = Listener()
    for _ in range(1000):
        listener.listen(engine.step())
    assert set(listener.heard) == {"a", "b", "c", "d", "seeded"}
    assert frozenset({"a", "b"}) in crews
    assert frozenset({"c", "d"}) in crews
    assert all(crew == {"seeded"} for crew in crews if "seeded" in crew)


def test_a_step_returns_soon_even_when_nothing_ends(
    engine: QwenEngine, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "STEP_SECONDS", 0.0)
    engine.admit(Utterance("a", LONG, x_vector, greedy(max_seconds=30)))
    assert engine.step() == []
    assert {len(row.frames) for row in engine._flight.rows} == {1}
    engine.cancel("a")


def test_the_model_is_loaded_at_the_start_or_with_the_first_job(
    settings: Settings, model: Model, x_vector: QwenPrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def opening(_: Settings) -> Model:
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
    assert len(samples_of(speak(lazy, Utterance("a", "Hi.", x_vector, greedy()))["a"])) > 0
    assert opened == ["now", "now"]


def test_a_model_that_can_not_speak_does_not_start(
    settings: Settings, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu_runner.engines.qwen.open_model", lambda _: model)
    failing(iter([out_of_memory()]), monkeypatch, "_read_in")
    with pytest.raises(CannotLoad, match="can't speak: There is too little memory"):
        load(settings)
