"""A job during its synthesis: its parts, each generated as a row, its warnings, and its audio so far."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gpu_runner.engines import Finished, Piece, Utterance, hash_of, seed_of
from gpu_runner.engines.qwen.checkpoint.model import FRAMES_PER_SECOND, LONGEST_SEQUENCE, SAMPLE_RATE
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


@dataclass(frozen=True, slots=True)
class TextPart:
    """A part of a text as tokens, and the pause after it in seconds."""

    text: str
    tokens: list[int]
    pause: float


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A text in parts, and the transcript of its voice's reference (empty unless its audio is used too)."""

    parts: list[TextPart]
    transcript: list[int]


def tokenize(text: str, language: str, prompt: QwenPrompt, tokens_of: Callable[[str], list[int]]) -> TokenizedText:
    """Split a cleaned text into parts and tokenize them. It needs no device, so it may run in any thread."""
    transcript = tokens_of(prompt.transcript) if prompt.codes is not None else []
    parts = [TextPart(part.text, tokens_of(part.text), part.pause) for part in parts_of(text, language)]
    return TokenizedText(parts, transcript)


@dataclass(slots=True, eq=False)
class Row:
    """A part of a job. `codes` are the frames that it has generated, 16 codes each."""

    job_id: str
    part: int
    tokens: list[int]  # of the transcript and the part
    language: str
    prompt: QwenPrompt
    sampling: Sampling
    seed: int  # of the job
    cap: int  # frames at most
    reads_ahead: bool = False  # the prefix contains the whole text
    codes: list[list[int]] = field(default_factory=list)
    slot: int | None = None  # see `generator.Generator`
    launched: int = 0  # frames of it that have been started on the device
    prefix: int = 0  # positions that it has read before those
    state: int | None = None  # see `decoder.Decoder`
    decoded: int = 0  # frames that have been handed to the codec
    decoding: int = 0  # chunks of them whose samples are pending
    ended: bool = False
    was_capped: bool = False
    attempt: int = 0
    runaway: RunawayDetector = field(default_factory=RunawayDetector)

    @property
    def is_decoded(self) -> bool:
        """Whether all of its samples have been decoded."""
        return self.ended and self.decoded == len(self.codes) and self.decoding == 0

    def random_numbers(self, groups: int) -> Tensor:
        """Generate the random numbers of all frames that it may have: [cap, groups] float32 in [0, 1).

        They are generated on the CPU, where they are the same on every machine. Without sampling they are 0, which
        chooses the first of equal codes.
        """
        seed = seed_of_part(self.seed, self.part)
        numbers = torch.rand(self.cap, groups, generator=torch.Generator().manual_seed(seed))
        sampled = [self.sampling.temperature > 0, *[self.sampling.subtalker_temperature > 0] * (groups - 1)]
        return numbers * torch.tensor(sampled)

    def next_attempt(self) -> "Row":
        """Return a new row for the same part, with the next seed."""
        return Row(
            self.job_id,
            self.part,
            self.tokens,
            self.language,
            self.prompt,
            self.sampling,
            seed=self.seed + 1,
            cap=self.cap,
            reads_ahead=self.reads_ahead,
            attempt=self.attempt + 1,
        )


@dataclass(frozen=True, slots=True)
class Admitted:
    """An utterance whose text is being split and tokenized, in another thread."""

    utterance: Utterance
    prompt: QwenPrompt
    text: "Future[TokenizedText]"
    began: float

    def rows(self, text: TokenizedText, defaults: Sampling) -> list[Row]:
        """Create a row for each part."""
        utterance, options = self.utterance, self.utterance.options
        seed = seed_of(utterance) + utterance.attempt
        return [
            Row(
                job_id=utterance.job_id,
                part=number,
                tokens=text.transcript + part.tokens,
                language=options.language,
                prompt=self.prompt,
                sampling=defaults.with_options(options),
                seed=seed,
                cap=cap_of(part.text, options.max_seconds),
                reads_ahead=bool(options.non_streaming_mode),
            )
            for number, part in enumerate(text.parts)
        ]


class Job:
    """A job whose text has been split into parts."""

    def __init__(self, utterance: Utterance, text: TokenizedText, began: float, warnings: tuple[str, ...]) -> None:
        self.utterance = utterance
        self.text = text
        self._began = began  # on the monotonic clock
        self._warnings = list(warnings)
        self._joiner = Joiner([part.pause for part in text.parts], SAMPLE_RATE, utterance.options.max_seconds)
        self._parts_left = len(text.parts)
        self._sent = 0  # pieces
        self._finish_reason: FinishReason = "retried" if utterance.attempt else "stop"
        self._may_retry = False

    @property
    def is_over(self) -> bool:
        """Whether no audio follows: all parts have ended, or the audio has reached its maximum length."""
        return self._parts_left == 0 or self._joiner.was_cut

    def push(self, row: Row, samples: Samples) -> Iterator[Piece]:
        """Add decoded samples of a part. Yield a piece if audio is ready."""
        yield from self._piece(self._joiner.push(row.part, samples))

    def retry(self, row: Row) -> Row | None:
        """Return a row to replace a runaway one, if none of its audio was returned and another seed may help."""
        if not row.sampling.is_random or row.attempt == MAX_RETRIES:
            return None
        if row.part == 0:
            self._may_retry = True
            return None
        self._joiner.restart(row.part)
        if self._finish_reason == "stop":
            self._finish_reason = "retried"
        return row.next_attempt()

    def end_part(self, row: Row, warning: str | None) -> Iterator[Piece]:
        """End a part, with a warning if it was cut off. Yield a piece if audio is ready."""
        if warning is not None:
            self._finish_reason = "length"
            self._warn(warning)
        self._parts_left -= 1
        yield from self._piece(self._joiner.end(row.part, fade=warning is not None))

    def finish(self, error: Exception | None = None) -> Finished:
        """Return the end of the job."""
        limit = self.utterance.options.max_seconds
        if limit is not None and self._joiner.was_cut:
            self._finish_reason = "length"
            self._warn(_cut_at(limit))
        return Finished(
            self.utterance.job_id,
            error,
            tuple(self._warnings),
            time.monotonic() - self._began,
            self._finish_reason,
            may_retry=self._may_retry,
        )

    def _piece(self, samples: Samples) -> Iterator[Piece]:
        if len(samples) > 0:
            yield Piece(self.utterance.job_id, self._sent, samples)
            self._sent += 1

    def limit_warning(self, row: Row) -> str | None:
        """Return the warning for a row that was capped by the request, or None if it was capped by its text."""
        limit, text = self.utterance.options.max_seconds, self.text.parts[row.part].text
        by_request = limit is not None and row.cap <= round(limit * FRAMES_PER_SECOND) < cap_of(text)
        return _cut_at(limit) if limit is not None and by_request else None

    def _warn(self, warning: str) -> None:
        if warning not in self._warnings:
            self._warnings.append(warning)


def cap_of(text: str, max_seconds: float | None = None) -> int:
    """Return the maximum frames of a part of a text. For a whole text, return that of its longest possible part."""
    seconds = min(speech_seconds(text), LONGEST_PART_SECONDS)
    seconds = min(CAP_SECONDS + CAP_FACTOR * seconds, max_seconds or float("inf"))
    return min(LONGEST, max(LEAST_FRAMES, round(seconds * FRAMES_PER_SECOND)))


def runaway_warning(kind: str, seconds: float) -> str:
    """Return the warning for speech that was stopped."""
    return (
        f"The speech did not end by itself: it was {kind}, and was cut off after {seconds:.0f} s. "
        "Try again, or use another seed."
    )


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


def seed_of_part(seed: int, part: int) -> int:
    """Return the seed of a part of a text: 56 bits of the BLAKE2b hash of the job's seed and the part's number."""
    return hash_of(f"{seed}:{part}")
