"""The interface between the worker and a speech model.

An engine is used from one thread at a time, except where a method says otherwise. It batches continuously: an
utterance that is admitted between two steps joins the next one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol, runtime_checkable

from pipeline.audio.reference_audio import Recording, Samples
from pipeline.contract.engines import EngineStart
from pipeline.contract.records import FinishReason, Options
from pipeline.errors import PipelineError


class PromptRejected(PipelineError):
    """A stored voice prompt is damaged, or was created by another model: it has to be created again."""

    code = "prompt_rejected"


class CannotLoad(Exception):
    """The engine can't be loaded on this machine. The message gives the reason and a remedy in one line."""


class DownloadFailed(CannotLoad):
    """The model can't be downloaded at present. Another attempt continues the download."""


class EngineLost(Exception):
    """The device is lost permanently and only a new process can continue. Any method may raise it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The recording from which a voice is cloned. `transcription` may be blank."""

    recording: Recording
    transcription: str


OnStart = Callable[[EngineStart], None]
"""Receives the state of an engine while it is loaded. It is called from any thread."""


class VoicePrompt(Protocol):
    """A reference after processing by an engine. It is reusable, and unchanged by a round trip through JSON."""

    def to_json(self) -> bytes:
        """Serialize it as UTF-8 JSON: an object with at least `format` (int) and `model` (str)."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """Audio that the worker inserts at the start of an utterance and after each interval."""

    samples: Samples
    interval_seconds: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """A text to be synthesized in a voice. An `attempt` after the first, which is 0, uses another seed.

    Engines ignore the `announcement`.
    """

    job_id: str
    text: str
    prompt: VoicePrompt
    options: Options
    attempt: int = 0
    announcement: Announcement | None = None


def seed_of(utterance: Utterance) -> int:
    """Return the seed of the first attempt: the requested one, or 56 bits of the BLAKE2b hash of the job's id.

    So a job that is delivered twice has the same audio, whatever else is in the batch.
    """
    seed = utterance.options.seed
    return hash_of(f"job:{utterance.job_id}") if seed is None else seed


def hash_of(text: str) -> int:
    """Return 56 bits of the BLAKE2b hash of a text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest())


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of an utterance's audio, available as soon as it is generated.

    `seq` counts the pieces of a job from 0 without a gap. `samples` are mono float32 at the engine's rate, and at
    least one. All pieces of a job, concatenated in order, are exactly its audio.
    """

    job_id: str
    seq: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an utterance, after its last piece. With an `error`, its pieces are not the whole audio.

    `seconds` is the time the engine spent on it, from its admission. With `may_retry`, the speech did not end by
    itself, and another attempt may give better audio.
    """

    job_id: str
    error: Exception | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    finish_reason: FinishReason = "stop"
    may_retry: bool = False


class Engine(Protocol):
    """A speech model."""

    model: str
    sample_rate: int
    capacity: int

    def make_prompt(self, reference: Reference) -> VoicePrompt:
        """Create the prompt of a voice. May be called from any thread, also during a step.

        Raises
        ------
        InvalidInput
            The reference is unusable.
        """

    def restore_prompt(self, document: bytes) -> VoicePrompt:
        """Load a prompt written by `VoicePrompt.to_json`. May be called from any thread, also during a step.

        Raises
        ------
        PromptRejected
            It is damaged, or was created by another model.
        """

    def admit(self, utterance: Utterance) -> None:
        """Admit an utterance. At most `capacity` are admitted at a time.

        Raises
        ------
        InvalidInput
            It can never be synthesized. It was not admitted.
        """

    def step(self) -> Iterable[Piece | Finished]:
        """Advance all admitted utterances by about a frame. Return new audio, and the utterances that ended.

        Every utterance ends in exactly one `Finished`, unless it is cancelled. One that fails alone reports its
        error there. An exception means that all of them were lost.

        Raises
        ------
        EngineLost
            Only a new process can continue.
        """

    def cancel(self, job_id: str) -> None:
        """Drop an utterance: no `Piece` or `Finished` of it follows. Unknown ids are ignored. Never raises."""


@runtime_checkable
class Reproducible(Protocol):
    """Optional interface of an engine: equal utterances have equal audio, except for inaudible rounding errors."""

    @property
    def reproducible_as(self) -> str | None:
        """A name for everything that the audio depends on besides the utterance: equal names mean equal audio.

        None if it is not known yet, or the engine is not reproducible. It may be read from any thread, at any time.
        """
