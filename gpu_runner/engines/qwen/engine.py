"""The engine: utterances in, audio out, whatever their voices, languages, lengths and options."""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import structlog
import torch

from gpu_runner.engines import CannotLoad, EngineLost, Finished, Piece, Reference, Utterance, VoicePrompt
from gpu_runner.engines.qwen import joining, prompts
from gpu_runner.engines.qwen.boarding import Boarding
from gpu_runner.engines.qwen.failures import OutOfMemory, told_apart
from gpu_runner.engines.qwen.generation import LEAST_FRAMES, End, Flight, Landed, Row
from gpu_runner.engines.qwen.model import FRAMES_PER_SECOND, SAMPLE_RATE, Model, release_memory
from gpu_runner.engines.qwen.prompts import QwenPrompt
from gpu_runner.engines.qwen.seeds import seed_of, seed_of_part
from gpu_runner.engines.qwen.text import has_words, parts_of, speech_seconds
from pipeline.audio.reference_audio import Recording, Samples
from pipeline.contract.records import Options
from pipeline.errors import InvalidInput, PipelineError, SynthesisFailed, Unavailable

log = structlog.get_logger()

STEP_SECONDS = (
    0.25  # how long a step goes on when nothing ends: the worker wants to admit, cancel and stop in between
)
CAP_SECONDS, CAP_FACTOR = 4.0, 3.0  # a part that takes longer than this, by its text, has lost its way


@dataclass(slots=True)
class _Job:
    utterance: Utterance
    pauses: list[float]
    began: float
    pieces: dict[int, Samples] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class QwenEngine:
    """Qwen3-TTS in the seat of `gpu_runner.engines.Engine`; used from one thread at a time."""

    sample_rate = SAMPLE_RATE

    def __init__(self, open_model: Callable[[], Model], *, capacity: int, model: str) -> None:
        self.model = model
        self.capacity = capacity
        self._open_model = open_model
        self._jobs: dict[str, _Job] = {}
        self._boarding = Boarding(capacity)

    @cached_property
    def loaded(self) -> Model:
        """The model, loaded when it is first needed; a job may be waiting then, which another process can take."""
        try:
            return self._open_model()
        except CannotLoad as error:
            raise EngineLost(str(error)) from None

    @cached_property
    def _flight(self) -> Flight:
        return Flight(self.loaded)

    @property
    def rows_at_a_time(self) -> int:
        """How many parts are spoken side by side at most: `capacity`, less where memory was short."""
        return self._boarding.limit

    def warm_up(self) -> None:
        """Load the model and let it say a word, so that nothing is done for the first time in the first job.

        Raises
        ------
        CannotLoad
            It can't be loaded, or can't speak.
        """
        hum: Samples = np.sin(np.arange(SAMPLE_RATE, dtype=np.float32) / 30, dtype=np.float32)
        try:
            prompt = self.make_prompt(Reference(Recording(hum, SAMPLE_RATE), "Mm."))
            self.admit(Utterance("", "Mm.", prompt, Options(max_seconds=1)))
            self._speak_out()
        except EngineLost as error:
            raise CannotLoad(str(error)) from None
        except PipelineError as error:
            raise CannotLoad(f"The model is loaded and can't speak: {error.message}") from None

    def _speak_out(self) -> None:
        while self._jobs:
            for event in self.step():
                if isinstance(event, Finished) and event.error is not None:
                    raise event.error

    @torch.inference_mode()
    def make_prompt(self, reference: Reference) -> QwenPrompt:
        """See `Engine.make_prompt`."""
        model = self.loaded
        with self._memory_for_one():
            return prompts.make(model, reference)

    def restore_prompt(self, document: bytes) -> QwenPrompt:
        """See `Engine.restore_prompt`."""
        return prompts.restore(self.loaded, document)

    def admit(self, utterance: Utterance) -> None:
        """See `Engine.admit`."""
        model = self.loaded
        prompt = self._checked_prompt(utterance.prompt)
        language = self._checked_language(utterance.options.language)
        text = model.clean(utterance.text)
        if not has_words(text):
            raise InvalidInput("The text holds nothing that can be spoken.", field="text")
        parts = parts_of(text, language)
        job = _Job(utterance, [part.pause for part in parts], time.monotonic(), warnings=list(prompt.warnings))
        self._jobs[utterance.job_id] = job
        self._boarding.wait([self._row(utterance, prompt, number, part.text) for number, part in enumerate(parts)])

    @torch.inference_mode()
    def cancel(self, job_id: str) -> None:
        """See `Engine.cancel`."""
        if self._jobs.pop(job_id, None) is not None:
            self._drop_rows(job_id)

    @torch.inference_mode()
    def step(self) -> list[Piece | Finished]:
        """See `Engine.step`."""
        until = time.monotonic() + STEP_SECONDS
        finished: list[Piece | Finished] = []
        try:
            while self._jobs and not finished:
                finished += self._board()
                finished += self._advance()
                if time.monotonic() >= until:
                    break
        except Exception:
            # Whatever it was, all are lost, and have to be lost here too: none may come back from a later step.
            self._jobs.clear()
            self._boarding.clear()
            self._flight.clear()
            raise
        return finished

    def _checked_prompt(self, prompt: VoicePrompt) -> QwenPrompt:
        if not isinstance(prompt, QwenPrompt) or prompt.identity.model != self.loaded.identity.model:
            raise InvalidInput("The voice prompt is not this model's; make it again.")
        return prompt

    def _checked_language(self, language: str) -> str:
        known = self.loaded.languages
        if language.lower() not in {"auto", *known}:
            names = ", ".join(["Auto", *sorted(name.title() for name in known)])
            raise InvalidInput(f"The model does not speak {language[:64]}; it speaks {names}.", field="language")
        return language

    def _row(self, utterance: Utterance, prompt: QwenPrompt, number: int, text: str) -> Row:
        options = utterance.options
        return Row(
            job_id=utterance.job_id,
            part=number,
            text=text,
            language=options.language,
            prompt=prompt,
            sampling=self.loaded.defaults.with_options(options),
            seed=seed_of_part(seed_of(utterance.job_id, options.seed), number),
            cap=_cap_of(text, options.max_seconds),
            alone=options.seed is not None and not self.loaded.batch_invariant,
        )

    def _board(self) -> list[Finished]:
        """Take rows on while there is room; one that can't be read in fails its own job."""
        finished: list[Finished] = []
        while (row := self._boarding.call(self._flight.rows)) is not None:
            try:
                with told_apart():
                    self._flight.board(row)
            except OutOfMemory as error:
                finished += self._left_behind(row, error)
            except EngineLost:
                raise
            except Exception:
                # Not with the values of the variables, as some formatters write them: the text is private.
                log.error("a text can't be read in", job_id=row.job_id, traceback=traceback.format_exc())  # noqa: TRY400
                finished.append(self._failed(row.job_id, _unreadable()))
        return finished

    def _left_behind(self, row: Row, error: OutOfMemory) -> list[Finished]:
        """Let a row that found no room wait until another has left."""
        release_memory(self.loaded.device)
        flying = len(self._flight.rows)
        if flying == 0:
            return [self._failed(row.job_id, _no_room())]
        self._boarding.wait_first([row])
        self._shrink(flying, error)
        return []

    def _advance(self) -> Sequence[Piece | Finished]:
        """Speak one frame of everything in flight."""
        if not self._flight.rows:
            return []
        try:
            with told_apart():
                landed = self._flight.advance()
        except OutOfMemory as error:
            return self._make_room(error)
        return [done for one in landed for done in self._land(one)]

    def _land(self, landed: Landed) -> Iterator[Piece | Finished]:
        """Take what a row has spoken; its job ends with its last one."""
        row = landed.row
        job = self._jobs.get(row.job_id)
        if job is None:  # another part of it has failed
            return
        if landed.end is End.BROKEN:
            yield self._failed(row.job_id, _broken(self.loaded))
            return
        if landed.end is End.CAPPED:
            _warn_of_cap(job, row)
        try:
            job.pieces[row.part] = self._sound_of(row, landed.end)
        except OutOfMemory:
            yield self._failed(row.job_id, _no_room())
            return
        self._boarding.landed()
        if len(job.pieces) == len(job.pauses):
            yield from self._succeeded(self._jobs.pop(row.job_id))

    def _sound_of(self, row: Row, end: End) -> Samples:
        codes = torch.tensor(row.frames, dtype=torch.long)
        context = codes[:0] if row.prompt.codes is None else row.prompt.codes
        samples: Samples = self.loaded.decode(codes, context).numpy()
        return joining.faded(samples, SAMPLE_RATE, start=False) if end is End.CAPPED else samples

    def _succeeded(self, job: _Job) -> Iterator[Piece | Finished]:
        pieces = [job.pieces[number] for number in range(len(job.pauses))]
        samples = joining.join(pieces, job.pauses, SAMPLE_RATE)
        limit = job.utterance.options.max_seconds
        if limit is not None and len(samples) > limit * SAMPLE_RATE:
            samples = joining.cut(samples, limit, SAMPLE_RATE)
            _warn(job, _cut_at(limit))
        job_id = job.utterance.job_id
        yield Piece(job_id, 0, samples)
        yield Finished(job_id, warnings=tuple(job.warnings), seconds=time.monotonic() - job.began)

    def _failed(self, job_id: str, error: PipelineError) -> Finished:
        job = self._jobs.pop(job_id)
        self._drop_rows(job_id)
        return Finished(job_id, error=error, warnings=tuple(job.warnings), seconds=time.monotonic() - job.began)

    def _drop_rows(self, job_id: str) -> None:
        self._boarding.leave(job_id)
        self._flight.leave(job_id)

    def _make_room(self, error: OutOfMemory) -> list[Finished]:
        """Halve the batch and start it again; a part that doesn't fit even on its own fails its job."""
        rows = self._flight.clear()
        release_memory(self.loaded.device)
        if len(rows) == 1:
            return [self._failed(rows[0].job_id, _no_room())]
        self._boarding.wait_first(rows)
        self._shrink(len(rows) // 2, error)
        return []

    def _shrink(self, limit: int, error: OutOfMemory) -> None:
        log.warning("out of memory: fewer at a time", before=self._boarding.limit, now=limit, reason=str(error))
        self._boarding.shrink(limit)

    @contextmanager
    def _memory_for_one(self) -> Iterator[None]:
        try:
            with told_apart():
                yield
        except OutOfMemory:
            release_memory(self.loaded.device)
            raise _no_room() from None


def _cap_of(text: str, max_seconds: float | None) -> int:
    """Give the most frames that a part may take."""
    seconds = min(CAP_SECONDS + CAP_FACTOR * speech_seconds(text), max_seconds or float("inf"))
    return max(LEAST_FRAMES, round(seconds * FRAMES_PER_SECOND))


def _warn_of_cap(job: _Job, row: Row) -> None:
    limit = job.utterance.options.max_seconds
    if limit is not None and row.cap <= round(limit * FRAMES_PER_SECOND) < _cap_of(row.text, None):
        _warn(job, _cut_at(limit))
    else:
        _warn(
            job,
            f"The speech did not end by itself and was cut off after {row.cap / FRAMES_PER_SECOND:.0f} s, "
            "the most that its text should take; try it again, or with another seed.",
        )


def _cut_at(limit: float) -> str:
    return f"The speech was cut off after {limit:g} s, as max_seconds asks."


def _warn(job: _Job, warning: str) -> None:
    if warning not in job.warnings:
        job.warnings.append(warning)


def _broken(model: Model) -> SynthesisFailed:
    cure = " float16 is known for this: use bfloat16 or float32." if model.dtype == torch.float16 else ""
    return SynthesisFailed(f"The model gave numbers that can't be turned into speech.{cure}")


def _unreadable() -> SynthesisFailed:
    return SynthesisFailed("The model can't read this text; put it another way.")


def _no_room() -> Unavailable:
    return Unavailable("There is too little memory on the device for this at the moment; try again later.")
