"""The interface of a speech model: all that the worker knows of one.

An engine is used from one thread at a time, except where a method says otherwise.  It may batch continuously (take
what is admitted between two steps) or run a closed batch in a single `step`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pipeline.audio.reference_audio import Recording, Samples
from pipeline.contract.records import Options
from pipeline.errors import PipelineError


class PromptRejected(PipelineError):
    """A stored voice prompt is damaged, or was made by another model: it has to be made again."""

    code = "prompt_rejected"


class CannotLoad(Exception):
    """The engine can't be had on this machine; the message is one line that says what is wrong and what to do."""


class EngineLost(Exception):
    """The device is gone for good: only a new process can go on.  Any method may raise it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a voice is cloned from; `transcription` may be blank."""

    recording: Recording
    transcription: str


class VoicePrompt(Protocol):
    """What an engine makes of a reference, once: reusable, and the same after a way through JSON."""

    def to_json(self) -> bytes:
        """Write all of it as UTF-8 JSON: an object with at least `format` (int) and `model` (str)."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """A text to be spoken in a voice."""

    job_id: str
    text: str
    prompt: VoicePrompt
    options: Options


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of an utterance's audio, as soon as it exists.

    `seq` counts the pieces of a job from 0 without a gap; `samples` are mono float32 at the engine's rate, and at
    least one.  All pieces of a job, joined in order, are its audio to the sample.
    """

    job_id: str
    seq: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an utterance, after its last piece; with an `error`, its pieces are not the whole audio.

    `seconds` is the time the engine spent on it, from its admission.
    """

    job_id: str
    error: Exception | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0


class Engine(Protocol):
    """A speech model."""

    model: str
    sample_rate: int
    capacity: int

    def make_prompt(self, reference: Reference) -> VoicePrompt:
        """Make the prompt of a voice; may be called from any thread, also during a step.

        Raises
        ------
        InvalidInput
            The reference can never serve.
        """

    def restore_prompt(self, document: bytes) -> VoicePrompt:
        """Read back what `VoicePrompt.to_json` wrote; may be called from any thread, also during a step.

        Raises
        ------
        PromptRejected
            It is damaged, or another model's.
        """

    def admit(self, utterance: Utterance) -> None:
        """Take an utterance on; at most `capacity` are in at a time.

        Raises
        ------
        InvalidInput
            It can never be spoken; nothing was taken on.
        """

    def step(self) -> Iterable[Piece | Finished]:
        """Advance everything admitted by about a frame; return the audio made and the utterances that ended.

        Every utterance ends in exactly one `Finished`, unless it is cancelled.  One that fails alone has its error
        in there; an exception means that all of them were lost.

        Raises
        ------
        EngineLost
            Only a new process can go on.
        """

    def cancel(self, job_id: str) -> None:
        """Drop an utterance: neither pieces nor an end of it follow.  Unknown ids are ignored; never raises."""


@runtime_checkable
class Reproducible(Protocol):
    """An engine may have this as well, to say whether equal utterances give equal audio, to the sample."""

    reproducible_as: str | None
    """Names all that the audio depends on besides the utterance: engines with the same name make the same audio."""


@runtime_checkable
class ClosedBatches(Protocol):
    """An engine may have this as well, when what is admitted during a step has to wait for the next one."""

    gather_seconds: float
    """How long to wait for one more utterance before a step, as long as there is room for it."""
