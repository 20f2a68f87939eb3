"""A job during its synthesis: its parts, each generated as a row, its warnings, and its audio so far."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gpu_runner.engines import Finished, Piece, Utterance, hash_of, seed_of
from gpu_runner.engines.qwen.checkpoint.model import FRAMES_PER_SECOND, LONGEST_SEQUENCE, SAMPLE_RATE, Model
from gpu_runner.engines.qwen.joining import Joiner
from gpu_runner.engines.qwen.network.network import LEAST_FRAMES
from gpu_runner.engines.qwen.network.sampling import Sampling
from gpu_runner.engines.qwen.network.slots import LONGEST
from gpu_runner.engines.qwen.prompts import QwenPrompt
from gpu_runner.engines.qwen.runaway import RunawayDetector
from gpu_runner.engines.qwen.text import LONGEST_PART_SECONDS, parts_of, speech_seconds
from pipeline.audio.reference_audio import Samples
from pipeline.contract.records import FinishReason
from pipeline.errors import InvalidInput

PROMPT_TOKENS = 16  # of a prompt besides the frames of the reference: there are ten or eleven
CAP_SECONDS, CAP_FACTOR = 4.0, 3.0  # a part that takes longer than this, by its text, is a runaway
MAX_RETRIES = 2  # of a part that ran away


@dataclass(slots=True, eq=False)
class Row:
    """A part of a job. `codes` are the frames that it has generated, 16 codes each."""

    job_id: str
    part: int
    text: str
    pause: float  # seconds after it
    tokens: list[int]  # of the transcript and the part
    language: str
    prompt: QwenPrompt
    sampling: Sampling
    seed: int  # of the job
    cap: int  # frames at most
    reads_ahead: bool = False  # the prefix contains the whole text
    attempt: int = 0
    codes: list[list[int]] = field(default_factory=list, init=False)
    slot: int | None = field(default=None, init=False)  # see `generator.Generator`
    launched: int = field(default=0, init=False)  # frames of it that have been started on the device
    prefix: int = field(default=0, init=False)  # positions that it has read before those
    state: int | None = field(default=None, init=False)  # see `decoder.Decoder`
    decoded: int = field(default=0, init=False)  # frames that have been handed to the codec
    decoding: int = field(default=0, init=False)  # chunks of them whose samples are pending
    ended: bool = field(default=False, init=False)
    was_capped: bool = field(default=False, init=False)
    runaway: RunawayDetector = field(default_factory=RunawayDetector, init=False)

    @property
    def is_decoded(self) -> bool:
        """Whether all of its samples have been decoded."""
        return self.ended and self.decoded == len(self.codes) and self.decoding == 0

    def random_numbers(self, groups: int) -> Tensor:
        """Generate the random numbers of all frames that it may have: [cap, groups] float32 in [0, 1).

        They are generated on the CPU, where they are the same on every machine. Without sampling they are 0, which
        chooses the first of equal codes.
        """
        seed = hash_of(f"{self.seed}:{self.part}")
        numbers = torch.rand(self.cap, groups, generator=torch.Generator().manual_seed(seed))
        sampled = [self.sampling.temperature > 0, *[self.sampling.subtalker_temperature > 0] * (groups - 1)]
        return numbers * torch.tensor(sampled)


def rows_of(utterance: Utterance, text: str, prompt: QwenPrompt, model: Model) -> list[Row]:
    """Split a cleaned text into parts and tokenize them. It needs no device, so it may run in any thread."""
    options = utterance.options
    transcript = model.tokens(prompt.transcript) if prompt.codes is not None else []
    return [
        Row(
            job_id=utterance.job_id,
            part=number,
            text=part.text,
            pause=part.pause,
            tokens=transcript + model.tokens(part.text),
            language=options.language,
            prompt=prompt,
            sampling=model.defaults.with_options(options),
            seed=seed_of(utterance) + utterance.attempt,
            cap=cap_of(part.text, options.max_seconds),
            reads_ahead=bool(options.non_streaming_mode),
        )
        for number, part in enumerate(parts_of(text, options.language))
    ]


class Job:
    """A job. It begins when its text has been split into `rows`, in another thread."""

    def __init__(self, utterance: Utterance, warnings: Sequence[str], rows: "Future[list[Row]]") -> None:
        self.utterance = utterance
        self.rows = rows
        self.has_begun = False
        self._admitted = time.monotonic()
        self._warnings = dict.fromkeys(warnings)  # each once
        self._joiner = Joiner([], SAMPLE_RATE)
        self._parts_left = 0
        self._sent = 0  # pieces
        self._finish_reason: FinishReason = "retried" if utterance.attempt else "stop"
        self._may_retry = False

    def begin(self) -> list[Row]:
        """Begin, and return the rows."""
        rows = self.rows.result()
        self.has_begun = True
        self._joiner = Joiner([row.pause for row in rows], SAMPLE_RATE, self.utterance.options.max_seconds)
        self._parts_left = len(rows)
        return rows

    @property
    def is_over(self) -> bool:
        """Whether no audio follows: all parts have ended, or the audio has reached its maximum length."""
        return self._parts_left == 0 or self._joiner.was_cut

    def push(self, row: Row, samples: Samples) -> Iterator[Piece]:
        """Add decoded samples of a part. Yield a piece if audio is ready."""
        yield from self._piece(self._joiner.push(row.part, samples))

    def retry(self, row: Row) -> Row | None:
        """Return a row with the next seed for a runaway one, if none of its audio was returned and it may help."""
        if not row.sampling.is_random or row.attempt == MAX_RETRIES:
            return None
        if row.part == 0:
            self._may_retry = True
            return None
        self._joiner.restart(row.part)
        if self._finish_reason == "stop":
            self._finish_reason = "retried"
        return replace(row, seed=row.seed + 1, attempt=row.attempt + 1)

    def end_part(self, row: Row, warning: str | None) -> Iterator[Piece]:
        """End a part, with a warning if it was cut off. Yield a piece if audio is ready."""
        if warning is not None:
            self._finish_reason = "length"
            self._warnings[warning] = None
        self._parts_left -= 1
        yield from self._piece(self._joiner.end(row.part, fade=warning is not None))

    def finish(self, error: Exception | None = None) -> Finished:
        """Return the end of the job."""
        limit = self.utterance.options.max_seconds
        if limit is not None and self._joiner.was_cut:
            self._finish_reason = "length"
            self._warnings[_cut_at(limit)] = None
        return Finished(
            self.utterance.job_id,
            error,
            tuple(self._warnings),
            time.monotonic() - self._admitted,
            self._finish_reason,
            may_retry=self._may_retry,
        )

    def _piece(self, samples: Samples) -> Iterator[Piece]:
        if len(samples) > 0:
            yield Piece(self.utterance.job_id, self._sent, samples)
            self._sent += 1

    def limit_warning(self, row: Row) -> str | None:
        """Return the warning for a row that was capped by the request, or None if it was capped by its text."""
        limit = self.utterance.options.max_seconds
        if limit is None or not row.cap <= round(limit * FRAMES_PER_SECOND) < cap_of(row.text):
            return None
        return _cut_at(limit)


def cap_of(text: str, max_seconds: float | None = None) -> int:
    """Return the maximum frames of a part of a text. For a whole text, return that of its longest possible part."""
    seconds = min(speech_seconds(text), LONGEST_PART_SECONDS)
    seconds = min(CAP_SECONDS + CAP_FACTOR * seconds, max_seconds or float("inf"))
    return min(LONGEST, max(LEAST_FRAMES, round(seconds * FRAMES_PER_SECOND)))


def _cut_at(limit: float) -> str:
    return f"The speech was cut off after {limit:g} s, as max_seconds asks."


def check_length(prompt: QwenPrompt, cap: int) -> None:
    """Check that a reference and the longest part of a text, of `cap` frames, fit into a slot.

    Raises
    ------
    InvalidInput
        They do not fit.
    """
    reference = 0 if prompt.codes is None else len(prompt.codes)
    room = LONGEST_SEQUENCE - PROMPT_TOKENS - cap
    if reference > room:
        raise InvalidInput(
            f"The voice's recording has {reference / FRAMES_PER_SECOND:.0f} s. With this text the model accepts at "
            f"most {room / FRAMES_PER_SECOND:.0f} s. Use a shorter recording.",
            field="audio",
        )
