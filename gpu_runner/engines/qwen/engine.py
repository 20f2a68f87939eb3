"""The engine: batches utterances of any voice, language, length and options, and returns pieces of audio.

A text is split into parts, each a row. Rows wait in the scheduler. In a slot of the generator their codes are
generated, and in a state of the decoder these are decoded to samples. The job joins the samples of its rows.
"""

import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import structlog
import torch

from gpu_runner.engines import CannotLoad, EngineLost, Finished, Piece, Reference, Utterance
from gpu_runner.engines.qwen import prompts
from gpu_runner.engines.qwen.allocation import Stages, allocate_stages
from gpu_runner.engines.qwen.checkpoint.model import FRAMES_PER_SECOND, LONGEST_SEQUENCE, SAMPLE_RATE, Model
from gpu_runner.engines.qwen.checkpoint.out_of_memory import (
    OutOfMemory,
    no_memory,
    release_memory,
    translate_device_errors,
)
from gpu_runner.engines.qwen.generator import prefix_length
from gpu_runner.engines.qwen.job import Job, Row, cap_of, check_length, rows_of
from gpu_runner.engines.qwen.network.frame import Status
from gpu_runner.engines.qwen.prompts import QwenPrompt
from gpu_runner.engines.qwen.scheduler import Scheduler
from gpu_runner.engines.qwen.text import has_words
from pipeline.audio.reference_audio import Recording, Samples
from pipeline.contract.records import Options
from pipeline.errors import InvalidInput, PipelineError, SynthesisFailed

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
        self._jobs: dict[str, Job] = {}
        self.scheduler = Scheduler(capacity)

    @property
    def loaded(self) -> Model:
        """The model, loaded on first use. Meanwhile another process may receive a job that waits for it."""
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
        """The stages that rows go through, allocated and captured on first use."""
        try:
            return self._allocate(self.loaded, self.capacity)
        except CannotLoad as error:
            raise EngineLost(str(error)) from None

    @property
    def reproducible_as(self) -> str | None:
        """A name for everything that the audio depends on besides the utterance. None until the model is loaded."""
        model: Model | None = self.__dict__.get("_model")
        return None if model is None else model.reproducible_as

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Load the model and synthesize a word, so that the first job has no initialization cost.

        Raises
        ------
        CannotLoad
            The model can't be loaded, or can't synthesize.
        """
        hum: Samples = np.sin(np.arange(SAMPLE_RATE, dtype=np.float32) / 30, dtype=np.float32)
        try:
            prompt = self.make_prompt(Reference(Recording(hum, SAMPLE_RATE), "Mm."))
            self.admit(Utterance("", "Mm.", prompt, Options(max_seconds=1)))
            while self._jobs:
                for event in self.step():
                    if isinstance(event, Finished) and event.error is not None:
                        raise event.error
        except EngineLost as error:
            raise CannotLoad(str(error)) from None
        except PipelineError as error:
            raise CannotLoad(f"The model is loaded but can't synthesize: {error.message}") from None

    @torch.inference_mode()
    def make_prompt(self, reference: Reference) -> QwenPrompt:
        """Create the prompt of a voice: see `Engine.make_prompt`."""
        with self._prompt_thread() as model:
            return prompts.make(model, reference)

    @torch.inference_mode()
    def restore_prompt(self, document: bytes) -> QwenPrompt:
        """Load a stored prompt: see `Engine.restore_prompt`."""
        with self._prompt_thread() as model:
            return prompts.restore(model, document)

    def admit(self, utterance: Utterance) -> None:
        """Admit an utterance: see `Engine.admit`. The text is split and tokenized in another thread."""
        model, prompt, options = self.loaded, utterance.prompt, utterance.options
        if not isinstance(prompt, QwenPrompt) or prompt.identity.model != model.identity.model:
            raise InvalidInput("The voice prompt belongs to another model. Create it again.")
        if options.language.lower() not in {"auto", *model.languages}:
            names = ", ".join(["Auto", *sorted(name.title() for name in model.languages)])
            raise InvalidInput(f"The model does not speak {options.language[:64]}, only {names}.", field="language")
        text = model.clean(utterance.text)
        if not has_words(text):
            raise InvalidInput("The text contains nothing that can be spoken.", field="text")
        check_length(prompt, cap_of(text, options.max_seconds))
        rows = self._texts.submit(rows_of, utterance, text, prompt, model)
        self._jobs[utterance.job_id] = Job(utterance, prompt.warnings, rows)

    def cancel(self, job_id: str) -> None:
        """Drop an utterance: see `Engine.cancel`."""
        if self._jobs.pop(job_id, None) is not None:
            self._drop_rows(job_id)

    @torch.inference_mode()
    def step(self) -> Events:
        """Advance everything by a frame: see `Engine.step`."""
        try:
            started = [*self._start_jobs(), *self._admit_rows()]
            return [*started, *self._generate_codes(), *self._decode_samples()]
        except Exception:
            # After any error all utterances are lost and must be dropped here too: no later step may return them.
            for job_id in list(self._jobs):
                self.cancel(job_id)
            raise

    def _start_jobs(self) -> Iterator[Piece | Finished]:
        """Begin the jobs whose texts have been tokenized."""
        admitted = [job for job in self._jobs.values() if not job.has_begun]
        if admitted and len(admitted) == len(self._jobs):
            wait([job.rows for job in admitted], IDLE_SECONDS, "FIRST_COMPLETED")
        for job in [job for job in admitted if job.rows.done()]:
            job_id = job.utterance.job_id
            if error := job.rows.exception():
                # Without the values of variables, which some formatters include: the text is private.
                lines = traceback.format_exception(error)
                log.error("a text can't be tokenized", job_id=job_id, traceback="".join(lines))
                message = "The model can't process this text. Change it and try again."
                yield from self._fail(job_id, SynthesisFailed(message))
                continue
            rows = job.begin()
            if any(prefix_length(self.loaded, row) + row.cap > LONGEST_SEQUENCE for row in rows):
                message = "The text and the recording are too long for non_streaming_mode."
                yield from self._fail(job_id, InvalidInput(message, field="non_streaming_mode"))
                continue
            self.scheduler.add(rows)

    def _admit_rows(self) -> Iterator[Piece | Finished]:
        """Assign slots to waiting rows, while slots are free and the prefill does not take too long."""
        generator, decoder = self.stages.generator, self.stages.decoder
        rows = list[Row]()
        for row in self.scheduler.schedule(generator.rows):
            new_states = sum(one.state is None for one in [*rows, row])
            if not generator.can_admit([*rows, row]) or new_states > decoder.free:
                break
            rows.append(row)
        if not rows:
            return
        for row in rows:
            self.scheduler.withdraw(row)
        try:
            with translate_device_errors():
                for row in rows:
                    if row.state is None:
                        decoder.begin(row)
                generator.admit(rows)
        except OutOfMemory as error:
            yield from self._preempt(rows, len(generator.rows), error)

    def _generate_codes(self) -> Iterator[Piece | Finished]:
        """Generate a frame of all rows in slots."""
        generator = self.stages.generator
        try:
            with translate_device_errors():
                progress = generator.step()
        except OutOfMemory as error:
            rows = generator.clear()
            yield from self._preempt(rows, len(rows) // 2, error)
            return
        for row, status in progress:
            if status != Status.RUNNING:
                generator.release(row)
            if status == Status.NOT_FINITE:
                hint = " Use bfloat16 or float32." if self.loaded.dtype == torch.float16 else ""
                yield from self._fail(row.job_id, SynthesisFailed(f"The model returned invalid numbers.{hint}"))

    def _decode_samples(self) -> Iterator[Piece | Finished]:
        """Decode the due frames, and return the samples that have arrived."""
        decoder = self.stages.decoder
        for row in decoder.submit():
            yield from self._fail(row.job_id, no_memory())
        for row, samples in decoder.collect(wait=not self.stages.generator.rows):
            if row.state is not None and (job := self._jobs.get(row.job_id)):
                yield from job.push(row, samples)
                kind = row.runaway.check(row.codes, row.prompt.codes, samples)
                if kind is not None or job.is_over:
                    yield from self._end_row(job, row, kind)
        for row in decoder.rows:
            if row.is_decoded and (job := self._jobs.get(row.job_id)):
                warning = job.limit_warning(row) if row.was_capped else None
                kind = "endless" if row.was_capped and warning is None else None
                yield from self._end_row(job, row, kind, warning)

    def _end_row(
        self, job: Job, row: Row, kind: str | None, warning: str | None = None
    ) -> Iterator[Piece | Finished]:
        """End a row, and its job after the last one. A runaway row, of some kind, is retried if possible."""
        self.stages.generator.release(row)
        self.stages.decoder.end(row)
        self.scheduler.withdraw(row)
        self.scheduler.finish_row()
        if kind is not None:
            seconds = row.runaway.frames / FRAMES_PER_SECOND
            log.warning("speech ran away", job_id=row.job_id, kind=kind, seconds=seconds, attempt=row.attempt)
            if retry := job.retry(row):
                self.scheduler.preempt([retry])
                return
            warning = (
                f"The speech did not end by itself: it was {kind}, and was cut off after {seconds:.0f} s. "
                "Try again, or use another seed."
            )
        yield from job.end_part(row, warning)
        if job.is_over and self._jobs.pop(row.job_id, None) is not None:
            self._drop_rows(row.job_id)
            yield job.finish()

    def _fail(self, job_id: str, error: PipelineError) -> Iterator[Finished]:
        if (job := self._jobs.pop(job_id, None)) is not None:
            self._drop_rows(job_id)
            yield job.finish(error)

    def _drop_rows(self, job_id: str) -> None:
        self.scheduler.remove(job_id)
        if "stages" not in self.__dict__:
            return
        for row in [*self.stages.generator.rows, *self.stages.decoder.rows]:
            if row.job_id == job_id:
                self.stages.generator.release(row)
                self.stages.decoder.end(row)

    def _preempt(self, rows: Sequence[Row], limit: int, error: OutOfMemory) -> Iterator[Finished]:
        """Requeue rows until there is memory. They continue after their last frame. A single row fails."""
        release_memory(self.loaded.device)
        if len(rows) == 1 and limit == 0:
            yield from self._fail(rows[0].job_id, no_memory())
            return
        log.warning("out of memory, batch reduced", before=self.scheduler.limit, now=limit, reason=str(error))
        self.scheduler.preempt(rows)
        self.scheduler.shrink(limit or len(rows) // 2)

    @contextmanager
    def _prompt_thread(self) -> Iterator[Model]:
        """Select the device for a thread that handles one prompt, and translate its errors."""
        model = self.loaded
        try:
            # torch selects the first GPU in a new thread.
            with translate_device_errors(), torch.accelerator.device_index(model.device.index):
                yield model
        except OutOfMemory:
            release_memory(model.device)
            raise no_memory() from None
