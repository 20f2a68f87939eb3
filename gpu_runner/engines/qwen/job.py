"""An utterance during its synthesis: its parts, its warnings, and its audio so far."""

import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from gpu_runner.engines import Finished, Piece, Utterance
from gpu_runner.engines.qwen.joining import Joiner
from gpu_runner.engines.qwen.model import FRAMES_PER_SECOND, LONGEST_SEQUENCE, SAMPLE_RATE
from gpu_runner.engines.qwen.network.network import LEAST_FRAMES
from gpu_runner.engines.qwen.network.sampling import Sampling
from gpu_runner.engines.qwen.network.slots import LONGEST
from gpu_runner.engines.qwen.prompts import QwenPrompt
from gpu_runner.engines.qwen.rows import Row, TokenizedText
from gpu_runner.engines.qwen.seeds import seed_of, seed_of_part
from gpu_runner.engines.qwen.text import LONGEST_PART_SECONDS, speech_seconds
from pipeline.audio.reference_audio import Samples
from pipeline.errors import InvalidInput

PROMPT_TOKENS = 16  # of a prompt, beside the frames of the reference: there are ten or eleven
CAP_SECONDS, CAP_FACTOR = 4.0, 3.0  # a part that takes longer than this, by its text, has degenerated


@dataclass(frozen=True, slots=True)
class Admitted:
    """An utterance whose text is being cut and tokenized, in another thread."""

    utterance: Utterance
    prompt: QwenPrompt
    text: "Future[TokenizedText]"
    began: float

    def rows(self, text: TokenizedText, defaults: Sampling) -> list[Row]:
        """Create a row of each part."""
        utterance, options = self.utterance, self.utterance.options
        seed = seed_of(utterance.job_id, options.seed)
        return [
            Row(
                job_id=utterance.job_id,
                part=number,
                tokens=text.transcript + part.tokens,
                language=options.language,
                prompt=self.prompt,
                sampling=defaults.with_options(options),
                seed=seed_of_part(seed, number),
                cap=cap_of(part.text, options.max_seconds),
            )
            for number, part in enumerate(text.parts)
        ]


class Job:
    """A job whose text has been cut into parts."""

    def __init__(self, utterance: Utterance, text: TokenizedText, began: float, warnings: tuple[str, ...]) -> None:
        self.utterance = utterance
        self.text = text
        self._began = began  # on the monotonic clock
        self._warnings = list(warnings)
        self._joiner = Joiner([part.pause for part in text.parts], SAMPLE_RATE, utterance.options.max_seconds)
        self._parts_left = len(text.parts)
        self._sent = 0  # pieces

    @property
    def is_over(self) -> bool:
        """Whether no audio follows: all parts have ended, or it is as long as it may be."""
        return self._parts_left == 0 or self._joiner.was_cut

    def push(self, row: Row, samples: Samples) -> Iterator[Piece]:
        """Add decoded samples of a part; yield a piece if audio is ready."""
        yield from self._piece(self._joiner.push(row.part, samples))

    def end_part(self, row: Row) -> Iterator[Piece]:
        """End a part; yield a piece if audio is ready."""
        if row.was_capped:
            self._warn(self._reason_of_cap(row))
        self._parts_left -= 1
        yield from self._piece(self._joiner.end(row.part, fade=row.was_capped))

    def finish(self, error: Exception | None = None) -> Finished:
        """Return the end of the job."""
        limit = self.utterance.options.max_seconds
        if limit is not None and self._joiner.was_cut:
            self._warn(_cut_at(limit))
        return Finished(self.utterance.job_id, error, tuple(self._warnings), time.monotonic() - self._began)

    def _piece(self, samples: Samples) -> Iterator[Piece]:
        if len(samples) > 0:
            yield Piece(self.utterance.job_id, self._sent, samples)
            self._sent += 1

    def _reason_of_cap(self, row: Row) -> str:
        limit = self.utterance.options.max_seconds
        if limit is not None and row.cap <= round(limit * FRAMES_PER_SECOND) < cap_of(
            self.text.parts[row.part].text
        ):
            return _cut_at(limit)
        return (
            f"The speech did not end by itself and was cut off after {row.cap / FRAMES_PER_SECOND:.0f} s, "
            "the most that its text should take; try it again, or with another seed."
        )

    def _warn(self, warning: str) -> None:
        if warning not in self._warnings:
            self._warnings.append(warning)


def cap_of(text: str, max_seconds: float | None = None) -> int:
    """Return the maximum frames of a part of a text, or of one with the length of its longest possible part."""
    spoken = min(speech_seconds(text), LONGEST_PART_SECONDS)
    seconds = min(CAP_SECONDS + CAP_FACTOR * spoken, max_seconds or float("inf"))
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
            f"The voice's recording has {reference / FRAMES_PER_SECOND:.0f} s, and with this text the model can "
            f"hear {room / FRAMES_PER_SECOND:.0f} s at most; use a shorter recording.",
            field="audio",
        )
