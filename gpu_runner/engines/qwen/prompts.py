"""Voice prompts: created once from a reference, stored as JSON without loss, validated when loaded."""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import numpy as np
import soxr
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from gpu_runner.engines import PromptRejected, Reference
from gpu_runner.engines.qwen.checkpoint.model import SAMPLE_RATE, Identity, Model
from gpu_runner.engines.qwen.joining import speech_windows
from gpu_runner.engines.qwen.network.precision import float32_as
from gpu_runner.engines.qwen.text import has_words, speech_seconds
from pipeline.audio.reference_audio import Recording, Samples
from pipeline.errors import InvalidAudio

FORMAT = 1
LARGEST_DOCUMENT = 4 * 1024 * 1024  # bytes; a minute of reference takes about 60 KB
LONGEST_REFERENCE = 4096  # frames, 327 s

SILENCE_SECONDS = 0.5  # after the reference: without it the audio begins with an echo of the reference's end
SHORTEST_SECONDS = 0.1

# Estimated length of the transcript over the length of the speech in the clip.  In between is a natural pace.
NATURAL_PACE = (0.4, 2.5)
USABLE_PACE = (0.2, 5.0)  # the model would not stop, or would read the rest of the transcript aloud

Mode = Literal["in_context", "x_vector"]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class QwenPrompt:
    """A voice in the form that the model uses.

    `speaker` is [E] in the model's precision, `codes` are [F, 16] int64, and `state` is that of the codec after
    them, [N] float32. Both are None if only the speaker's vector is used. All are on the CPU, `state` in pinned
    memory when the model is on a GPU. `warnings` are for the client.
    """

    identity: Identity
    transcript: str
    speaker: Tensor
    codes: Tensor | None
    state: Tensor | None
    warnings: tuple[str, ...] = ()

    @property
    def mode(self) -> Mode:
        """The cloning mode of the voice."""
        return "x_vector" if self.codes is None else "in_context"

    def to_json(self) -> bytes:
        """Serialize it as UTF-8 JSON.

        Every precision used here converts to double exactly, and Python's JSON preserves doubles.
        """
        document = {
            "format": FORMAT,
            "engine": "qwen",
            **asdict(self.identity),
            "mode": self.mode,
            "transcript": self.transcript,
            "speaker_dtype": str(self.speaker.dtype).removeprefix("torch."),
            "speaker": self.speaker.double().tolist(),
            "codes": None if self.codes is None else self.codes.tolist(),
            "warnings": self.warnings,
        }
        return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


class _Document(BaseModel):
    """A stored prompt, which is untrusted input and validated."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")

    format: int
    engine: Literal["qwen"]
    model: Annotated[str, Field(max_length=512)]
    revision: Annotated[str, Field(max_length=128)]
    codec_dtype: Annotated[str, Field(max_length=32)]
    package: Annotated[str, Field(max_length=64)]
    mode: Mode
    transcript: Annotated[str, Field(max_length=65536)]
    speaker_dtype: Literal["float32", "float16", "bfloat16"]
    speaker: Annotated[list[float], Field(max_length=16384)]
    codes: Annotated[list[list[int]], Field(max_length=LONGEST_REFERENCE)] | None
    warnings: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=16)] = []


def make(model: Model, reference: Reference) -> QwenPrompt:
    """Create the prompt of a voice: in context when the transcript fits the clip, else from the speaker's vector.

    Raises
    ------
    InvalidAudio
        The reference can't be used.
    """
    samples = at_model_rate(reference.recording)
    cleaned = model.clean(reference.transcription)
    transcript = cleaned if has_words(cleaned) else ""
    unusable, warnings = check_transcript(transcript, seconds_of_speech(samples))
    in_context = bool(transcript) and not unusable
    # The codes depend on the precision, and in another thread TF32 may be about to be set.
    with float32_as("ieee"):
        speaker, codes, state = _read_voice(model, samples, in_context=in_context)
    transcript = transcript if in_context else ""
    return QwenPrompt(model.identity, transcript, speaker, codes, state, warnings)


def _read_voice(model: Model, samples: Samples, *, in_context: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return speaker, codes and state, see `QwenPrompt`."""
    speaker = model.pretrained.extract_speaker_embedding(audio=samples, sr=SAMPLE_RATE).cpu()
    if not speaker.isfinite().all():
        raise InvalidAudio("The model finds no voice in the recording. Use another recording.", field="audio")
    codes = encode(model, samples) if in_context else None
    return speaker.clone(), codes, state_after(model, codes)


def encode(model: Model, samples: Samples) -> Tensor:
    """Encode 24 kHz samples followed by silence: [F, 16] int64 codes."""
    silence = np.zeros(int(SILENCE_SECONDS * SAMPLE_RATE), np.float32)
    codes: Tensor = model.speech_tokenizer.encode(np.concatenate([samples, silence]), sr=SAMPLE_RATE).audio_codes[0]
    return codes.cpu().contiguous().clone()


@torch.inference_mode()
def state_after(model: Model, codes: Tensor | None) -> Tensor | None:
    """Compute the codec's state after a reference, see `QwenPrompt`. It is too large to be stored."""
    if codes is None:
        return None
    with float32_as("ieee"):
        state = model.codec.remember(model.to_device(codes)).cpu()
    return state.pin_memory() if model.device.type == "cuda" else state


def at_model_rate(recording: Recording) -> Samples:
    """Resample to 24 kHz float32.

    Raises
    ------
    InvalidAudio
        It is not finite, or too short for the model.
    """
    samples = np.asarray(recording.samples, np.float32)
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise InvalidAudio("The recording should be mono, with finite samples.", field="audio")
    if recording.duration_seconds < SHORTEST_SECONDS:
        raise InvalidAudio(f"The recording should last at least {SHORTEST_SECONDS} s.", field="audio")
    # soxr and not librosa, which compiles its resampler first: many seconds in a fresh container.
    resampled: Samples = soxr.resample(samples, recording.sample_rate, SAMPLE_RATE, quality="HQ")
    return np.clip(resampled, -1, 1)


def seconds_of_speech(samples: Samples) -> float:
    """Return the seconds of speech in 24 kHz samples, without pauses."""
    if len(samples) < SAMPLE_RATE // 50:
        return len(samples) / SAMPLE_RATE
    return len(speech_windows(samples, SAMPLE_RATE)) / 50


def check_transcript(transcript: str, seconds: float) -> tuple[bool, tuple[str, ...]]:
    """Return whether a transcript can't match a clip with `seconds` of speech, and warnings."""
    if not transcript:
        return False, ()
    pace = speech_seconds(transcript) / max(seconds, SHORTEST_SECONDS)
    if NATURAL_PACE[0] <= pace <= NATURAL_PACE[1]:
        return False, ()
    unusable = not USABLE_PACE[0] <= pace <= USABLE_PACE[1]
    finding = "is far too long" if pace > 1 else "is far too short"
    effect = (
        "it was ignored, and the voice was cloned from the audio only"
        if unusable
        else "a transcription of exactly the whole recording may improve the voice"
    )
    return unusable, (f"The transcription {finding} for {seconds:.1f} s of speech: {effect}.",)


def restore(model: Model, document: bytes) -> QwenPrompt:
    """Load a prompt written by `QwenPrompt.to_json`.

    Raises
    ------
    PromptRejected
        It is damaged, or was created by another model.
    """
    stored = _parse(document)
    _check_origin(stored, model.identity)
    speaker = _speaker(stored, model)
    codes = _codes(stored, model)
    if (codes is None) != (stored.mode == "x_vector"):
        raise PromptRejected("The voice prompt is damaged: its mode does not match its codes.")
    identity = Identity(stored.model, stored.revision, stored.codec_dtype, stored.package)
    transcript, state = model.clean(stored.transcript), state_after(model, codes)
    return QwenPrompt(identity, transcript, speaker, codes, state, tuple(stored.warnings))


def _parse(document: bytes) -> _Document:
    if len(document) > LARGEST_DOCUMENT:
        raise PromptRejected(f"The voice prompt has {len(document)} bytes, at most {LARGEST_DOCUMENT} are allowed.")
    try:
        return _Document.model_validate_json(document)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise PromptRejected(f"The voice prompt is damaged: {where or 'it'}: {problem['msg']}.") from None


def _check_origin(stored: _Document, own: Identity) -> None:
    if stored.format != FORMAT:
        raise PromptRejected(f"The voice prompt has format {stored.format}. This version reads format {FORMAT}.")
    found = (stored.model, stored.revision, stored.codec_dtype)
    expected = (own.model, own.revision, own.codec_dtype)
    if found != expected:
        raise PromptRejected(f"The voice prompt belongs to {'/'.join(found)}, not to {'/'.join(expected)}.")


def _speaker(stored: _Document, model: Model) -> Tensor:
    speaker = torch.tensor(stored.speaker, dtype=getattr(torch, stored.speaker_dtype))
    size = model.pretrained.config.speaker_encoder_config.enc_dim
    if len(speaker) != size or not speaker.isfinite().all():
        raise PromptRejected(f"The voice prompt is damaged: speaker should be {size} finite numbers.")
    return speaker


def _codes(stored: _Document, model: Model) -> Tensor | None:
    if stored.codes is None:
        return None
    groups, size = model.codec.groups, model.codec.codebook_size
    fits = all(len(frame) == groups for frame in stored.codes) and bool(stored.codes)
    # Compared as Python integers: a malicious one may be too large for a tensor.
    if not fits or not all(0 <= code < size for frame in stored.codes for code in frame):
        raise PromptRejected(f"The voice prompt is damaged: codes should be {groups} a frame, below {size}.")
    return torch.tensor(stored.codes, dtype=torch.long)
