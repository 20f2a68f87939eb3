"""The engine: batches utterances of any voice, language, length and options, and returns pieces of audio.

A text is cut into parts, each a row.  Rows wait in the scheduler, get slots in the generator, which generates
their codes, and states in the decoder, which decodes those to samples; their job joins the samples.
"""

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import structlog
import torch

from gpu_runner.engines import CannotLoad, EngineLost, Finished, Piece, Reference, Utterance, VoicePrompt
from gpu_runner.engines.qwen import prefix, prompts
from gpu_runner.engines.qwen.failures import OutOfMemory, broken, no_room, told_apart, unreadable
from gpu_runner.engines.qwen.job import Admitted, Job, cap_of, check_length
from gpu_runner.engines.qwen.model import SAMPLE_RATE, Model, release_memory
from gpu_runner.engines.qwen.prefix import Prefix
from gpu_runner.engines.qwen.prompts import QwenPrompt
from gpu_runner.engines.qwen.rows import Row, tokenize
from gpu_runner.engines.qwen.stages.allocation import Stages, allocate_stages
from gpu_runner.engines.qwen.stages.generator import End, Progress
from gpu_runner.engines.qwen.stages.scheduler import Scheduler
from gpu_runner.engines.qwen.text import has_words
from pipeline.audio.reference_audio import Recording, Samples
from pipeline.contract.records import Options
from pipeline.errors import InvalidInput, PipelineError

log = structlog.get_logger()

Events = list[Piece | Finished]
IDLE_SECONDS = 0.05  # how long an idle step waits at most for a text that is being tokenized


class QwenEngine:
    """Qwen3-TTS as a `gpu_runner.engines.Engine`."""

    sample_rate = SAMPLE_RATE

    def __init__(
        self,
        open_model: Callable[[], Model],
        *,
        capacity: int,
        model: str,
        allocate: Callable[[Model, int], Stages] = allocate_stages,
    ) -> None:
        self.model = model
        self.capacity = capacity
        self._open_model = open_model
        self._allocate = allocate
        self._loading = threading.Lock()
        self._texts = ThreadPoolExecutor(1, "text")
        self._admitted: dict[str, Admitted] = {}
        self._jobs: dict[str, Job] = {}
        self._scheduler = Scheduler(capacity)

    @property
    def loaded(self) -> Model:
        """The model, loaded on first use; a job that waits meanwhile can be received by another process."""
        with self._loading:
            return self._model

    @cached_property
    def _model(self) -> Model:
        try:
            return self._open_model()
        except CannotLoad as error:
            raise EngineLost(str(error)) from None

    @cached_property
    def stages(self) -> Stages:
        """The stages that rows go through, allocated on first use."""
        try:
            return self._allocate(self.loaded, self.capacity)
        except CannotLoad as error:
            raise EngineLost(str(error)) from None

    @property
    def reproducible_as(self) -> str | None:
        """See `Reproducible`; None until the model is loaded."""
        model: Model | None = self.__dict__.get("_model")
        return None if model is None else model.reproducible_as

    @property
    def rows_at_a_time(self) -> int:
        """The maximum number of rows in flight: `capacity`, or less where memory was short."""
        return self._scheduler.limit

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Load the model and synthesize a word, so that the first job has no initialization cost.

        Raises
        ------
        CannotLoad
            It can't be loaded, or can't synthesize.
        """
        hum: Samples = np.sin(np.arange(SAMPLE_RATE, dtype=np.float32) / 30, dtype=np.float32)
        try:
            prompt = self.make_prompt(Reference(Recording(hum, SAMPLE_RATE), "Mm."))
            self.stages.capture()
            self.admit(Utterance("", "Mm.", prompt, Options(max_seconds=1)))
            self._speak_all()
        except EngineLost as error:
            raise CannotLoad(str(error)) from None
        except PipelineError as error:
            raise CannotLoad(f"The model is loaded and can't speak: {error.message}") from None

    def _speak_all(self) -> None:
        while self._admitted or self._jobs:
            for event in self.step():
                if isinstance(event, Finished) and event.error is not None:
                    raise event.error

    @torch.inference_mode()
    def make_prompt(self, reference: Reference) -> QwenPrompt:
        """See `Engine.make_prompt`."""
        model = self.loaded
        with self._memory_for_one():
            return prompts.make(model, reference)

    @torch.inference_mode()
    def restore_prompt(self, document: bytes) -> QwenPrompt:
        """See `Engine.restore_prompt`."""
        model = self.loaded
        with self._memory_for_one():
            return prompts.restore(model, document)

    def admit(self, utterance: Utterance) -> None:
        """See `Engine.admit`; the text is cut and tokenized in another thread."""
        model, options = self.loaded, utterance.options
        prompt = self._checked_prompt(utterance.prompt)
        self._check_language(options.language)
        text = model.clean(utterance.text)
        if not has_words(text):
            raise InvalidInput("The text holds nothing that can be spoken.", field="text")
        check_length(prompt, cap_of(text, options.max_seconds))
        tokenized = self._texts.submit(tokenize, text, options.language, prompt, model.tokens)
        self._admitted[utterance.job_id] = Admitted(utterance, prompt, tokenized, time.monotonic())

    def cancel(self, job_id: str) -> None:
        """See `Engine.cancel`."""
        self._admitted.pop(job_id, None)
        if self._jobs.pop(job_id, None) is not None:
            self._drop_rows(job_id)

    @torch.inference_mode()
    def step(self) -> Events:
        """See `Engine.step`."""
        try:
            return [*self._start_jobs(), *self._admit_rows(), *self._make_codes(), *self._make_samples()]
        except Exception:
            # After any error all utterances are lost and must be dropped here too: no later step may return them.
            for job_id in [*self._admitted, *self._jobs]:
                self.cancel(job_id)
            raise

    def _checked_prompt(self, prompt: VoicePrompt) -> QwenPrompt:
        if not isinstance(prompt, QwenPrompt) or prompt.identity.model != self.loaded.identity.model:
            raise InvalidInput("The voice prompt is not this model's; make it again.")
        return prompt

    def _check_language(self, language: str) -> None:
        known = self.loaded.languages
        if language.lower() not in {"auto", *known}:
            names = ", ".join(["Auto", *sorted(name.title() for name in known)])
            raise InvalidInput(f"The model does not speak {language[:64]}; it speaks {names}.", field="language")

    def _start_jobs(self) -> Iterator[Piece | Finished]:
        """Create waiting rows from the texts that have been tokenized."""
        if self._admitted and not self._jobs:
            wait([admitted.text for admitted in self._admitted.values()], IDLE_SECONDS, "FIRST_COMPLETED")
        for job_id, admitted in list(self._admitted.items()):
            if not admitted.text.done():
                continue
            del self._admitted[job_id]
            if error := admitted.text.exception():
                _log_unreadable(job_id, error)
                yield Finished(job_id, unreadable(), admitted.prompt.warnings, time.monotonic() - admitted.began)
                continue
            text = admitted.text.result()
            self._jobs[job_id] = Job(admitted.utterance, text, admitted.began, admitted.prompt.warnings)
            self._scheduler.add(admitted.rows(text, self.loaded.defaults))

    def _admit_rows(self) -> Iterator[Piece | Finished]:
        """Assign slots to waiting rows, as far as slots are free and the prefill doesn't take too long."""
        chosen, lengths = list[Row](), list[int]()
        for row in self._scheduler.candidates(self.stages.generator.rows) if self._scheduler else ():
            length = prefix.length_of(self.loaded, row)
            new_states = sum(one.state is None for one in [*chosen, row])
            if not self.stages.generator.may_join([*lengths, length]) or new_states > self.stages.decoder.free:
                break
            chosen.append(row)
            lengths.append(length)
        if chosen:
            yield from self._admit(chosen)

    def _admit(self, rows: Sequence[Row]) -> Iterator[Piece | Finished]:
        newcomers = list[tuple[Row, Prefix]]()
        for row in rows:
            self._scheduler.take(row)
        try:
            with told_apart():
                newcomers = [(row, self._read(row)) for row in rows]
                for row in rows:
                    if row.state is None:
                        self.stages.decoder.begin(row)
                self.stages.generator.admit(newcomers)
        except OutOfMemory as error:
            yield from self._put_back(rows, len(self.stages.generator.rows), error)

    def _read(self, row: Row) -> Prefix:
        return self.stages.generator.read(self.loaded, row)

    def _make_codes(self) -> Iterator[Piece | Finished]:
        """Generate a frame of all rows in slots."""
        generator = self.stages.generator
        try:
            with told_apart():
                progress = generator.advance()
        except OutOfMemory as error:
            rows = generator.clear()
            yield from self._put_back(rows, len(rows) // 2, error)
            return
        for one in progress:
            yield from self._progressed(one)

    def _progressed(self, progress: Progress) -> Iterator[Piece | Finished]:
        if progress.end is not None:
            self.stages.generator.release(progress.row)
        if progress.end is End.BROKEN:
            yield from self._fail(progress.row, broken(self.loaded.dtype))

    def _make_samples(self) -> Iterator[Piece | Finished]:
        """Decode what is due, and return what has been decoded."""
        decoder = self.stages.decoder
        for row in decoder.submit():
            yield from self._fail(row, no_room())
        for row, samples in decoder.collect(wait=not self.stages.generator.rows):
            if job := self._jobs.get(row.job_id):
                yield from job.push(row, samples)
                yield from self._finish_if_over(job)
        for row in decoder.rows:
            if row.is_decoded and (job := self._jobs.get(row.job_id)):
                decoder.end(row)
                self._scheduler.row_ended()
                yield from job.end_part(row)
                yield from self._finish_if_over(job)

    def _finish_if_over(self, job: Job) -> Iterator[Finished]:
        if job.is_over and self._jobs.pop(job.utterance.job_id, None) is not None:
            self._drop_rows(job.utterance.job_id)
            yield job.finish()

    def _fail(self, row: Row, error: PipelineError) -> Iterator[Finished]:
        if (job := self._jobs.pop(row.job_id, None)) is not None:
            self._drop_rows(row.job_id)
            yield job.finish(error)

    def _drop_rows(self, job_id: str) -> None:
        self._scheduler.remove(job_id)
        if "stages" not in self.__dict__:
            return
        for row in self.stages.generator.rows:
            if row.job_id == job_id:
                self.stages.generator.release(row)
        for row in self.stages.decoder.rows:
            if row.job_id == job_id:
                self.stages.decoder.end(row)

    def _put_back(self, rows: Sequence[Row], limit: int, error: OutOfMemory) -> Iterator[Finished]:
        """Requeue rows until there is memory; they continue after their last frame.  A single row fails."""
        release_memory(self.loaded.device)
        if len(rows) == 1 and limit == 0:
            yield from self._fail(rows[0], no_room())
            return
        log.warning("out of memory: fewer at a time", before=self._scheduler.limit, now=limit, reason=str(error))
        self._scheduler.put_back(rows)
        self._scheduler.shrink(limit or len(rows) // 2)

    @contextmanager
    def _memory_for_one(self) -> Iterator[None]:
        try:
            with told_apart():
                yield
        except OutOfMemory:
            release_memory(self.loaded.device)
            raise no_room() from None


def _log_unreadable(job_id: str, error: BaseException) -> None:
    # Without the values of variables, which some formatters include: the text is private.
    lines = traceback.format_exception(error)
    log.error("a text can't be read in", job_id=job_id, traceback="".join(lines))
