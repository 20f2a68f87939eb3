"""The voice prompt: how a reference differs from the stock voice."""

from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpu_runner.engines import PromptRejected
from gpu_runner.engines.hibari.stock_voice import BIN_HZ, BINS, MODEL, SAMPLE_RATE, Adaptation, Floats, StockVoice
from gpu_runner.engines.pitch import level, median_pitch
from pipeline.audio.reference_audio import Recording, Samples

# Measured with tests/quality: a larger warp or correction lowers intelligibility without more similarity.
WARP_EXPONENT = 0.35
WARP_MIN, WARP_MAX = 0.86, 1.16
CORRECTION_MAX = 1.5  # natural logarithm
SMOOTHING_HZ = 160.0  # standard deviation
POINT_BINS = 5  # the correction is stored at every 100 Hz
PITCH_MIN, PITCH_MAX = 0.3, 3.0
LEVEL_MAX = 4.0
_CALIBRATION = "The quick brown fox jumps over the lazy dog. She had your dark suit in greasy wash water all year."
_SPEECH_HZ = (80.0, 4_000.0)  # the correction is zero on average here
_QUIET = 0.01  # of the power of loud frames: a pause
_PROMPT_BYTES_MAX = 8192
_POINTS = np.arange(0, BINS, POINT_BINS)

Factor = Annotated[float, Field(allow_inf_nan=False)]


class HibariPrompt(BaseModel):
    """The measured differences, which are applied to the stock voice."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    format: Literal[1] = 1
    model: str = MODEL
    pitch: Annotated[Factor, Field(ge=PITCH_MIN, le=PITCH_MAX)]
    warp: Annotated[Factor, Field(ge=WARP_MIN, le=WARP_MAX)]
    correction: tuple[Annotated[Factor, Field(ge=-CORRECTION_MAX, le=CORRECTION_MAX)], ...] = Field(
        min_length=len(_POINTS), max_length=len(_POINTS)
    )
    """Natural logarithm of the gain at every 100 Hz."""
    level: Annotated[Factor, Field(gt=0, le=LEVEL_MAX)]

    def to_json(self) -> bytes:
        """Serialize the prompt as UTF-8 JSON."""
        return self.model_dump_json().encode()

    @cached_property
    def adaptation(self) -> Adaptation:
        """The adaptation of the stock voice."""
        correction = np.interp(np.arange(BINS), _POINTS, self.correction).astype(np.float32)
        return Adaptation(self.pitch, self.warp, correction, self.level)


def restore(document: bytes) -> HibariPrompt:
    """Load a stored prompt.

    Raises
    ------
    PromptRejected
        It is damaged, or was created by another model.
    """
    if len(document) > _PROMPT_BYTES_MAX:
        raise PromptRejected(f"The stored prompt has {len(document)} bytes; expected at most {_PROMPT_BYTES_MAX}.")
    try:
        prompt = HibariPrompt.model_validate_json(document)
    except ValidationError as error:
        raise PromptRejected(f"The stored prompt is damaged, or not of {MODEL}.") from error
    if prompt.model != MODEL:
        raise PromptRejected(f"The stored prompt is of {prompt.model[:64]!r}, not of {MODEL}.")
    return prompt


class ReferenceAnalysis:
    """Measures references against the stock voice."""

    def __init__(self, voice: StockVoice) -> None:
        self._voice = voice
        self._calibration = voice.phonemes(_CALIBRATION)
        self._stock = self._speak(None)
        pitch = median_pitch(Recording(self._stock, SAMPLE_RATE))
        assert pitch is not None  # noqa: S101 - the stock voice is voiced
        self._stock_pitch = pitch

    def measure(self, recording: Recording) -> HibariPrompt:
        """Return the prompt of a voice. A reference without voiced sounds keeps the pitch of the stock voice."""
        ratio = (median_pitch(recording) or self._stock_pitch) / self._stock_pitch
        pitch = float(np.clip(ratio, PITCH_MIN, PITCH_MAX))
        warp = float(np.clip(pitch**WARP_EXPONENT, WARP_MIN, WARP_MAX))
        without = Adaptation(pitch, warp, np.zeros(BINS, np.float32))
        adapted = Recording(self._speak(without), SAMPLE_RATE)
        difference = _smoothed(log_spectrum(recording) - log_spectrum(adapted))
        low, high = (round(hz / BIN_HZ) for hz in _SPEECH_HZ)
        correction = np.clip(difference - difference[low:high].mean(), -CORRECTION_MAX, CORRECTION_MAX)
        loudness = level(self._speak(Adaptation(pitch, warp, correction)))
        return HibariPrompt(
            pitch=pitch,
            warp=warp,
            correction=tuple(correction[_POINTS].round(3).tolist()),
            level=min(level(self._stock) / loudness, LEVEL_MAX),
        )

    def _speak(self, adaptation: Adaptation | None) -> Samples:
        noise = np.random.default_rng(0)
        return np.concatenate([self._voice.synthesize(ids, adaptation, noise) for ids in self._calibration])


def log_spectrum(recording: Recording) -> Floats:
    """Return the natural logarithm of the mean amplitude spectrum of the loud frames, of shape (BINS,).

    Frames of 50 ms have a bin at every 20 Hz at any sample rate. Above the recording's bandwidth, the last value is
    repeated.
    """
    size = round(recording.sample_rate / BIN_HZ)
    samples = np.pad(recording.samples, (0, max(0, size - len(recording.samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: size // 4] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, axis=1)[:, :BINS]) ** 2  # [frames, bins]
    energy = power.sum(axis=1)
    mean = power[energy >= _QUIET * np.quantile(energy, 0.95)].mean(axis=0)
    spectrum = 0.5 * np.log(mean + 1e-9 * mean.max() + 1e-20)
    padded: Floats = np.pad(spectrum, (0, BINS - len(spectrum)), mode="edge").astype(np.float32)
    return padded


def _smoothed(values: Floats) -> Floats:
    deviation = SMOOTHING_HZ / BIN_HZ
    reach = round(4 * deviation)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    smooth: Floats = np.convolve(np.pad(values, reach, mode="edge"), kernel / kernel.sum(), "valid").astype(
        np.float32
    )
    return smooth
