"""Detection of speech with the model of silero-vad."""

from functools import lru_cache
from typing import Any

import numpy as np

from gpu_runner.analysis.audio import MODEL_RATE
from gpu_runner.analysis.models import onnx_session
from pipeline.audio.reference_audio import Samples

FRAME, CONTEXT = 512, 64
FRAME_SECONDS = FRAME / MODEL_RATE
SPEECH_PROBABILITY = 0.5


def speech_seconds(samples: Samples) -> float:
    """Return the duration of the speech in samples at `MODEL_RATE`.

    Raises
    ------
    PackageMissing
        silero-vad is not installed.
    """
    return float(np.count_nonzero(_probabilities(samples) > SPEECH_PROBABILITY) * FRAME_SECONDS)


def _probabilities(samples: Samples) -> Samples:
    """Return the probability of speech in frames of 32 ms. Each frame is preceded by the end of the one before."""
    padded = np.pad(samples, (CONTEXT, -len(samples) % FRAME))
    frames = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + FRAME)[::FRAME]
    state = np.zeros((1, 1, 128), np.float32)
    probabilities: Samples = _model().run(
        ["speech_probs"], {"input": np.ascontiguousarray(frames), "h": state, "c": state}
    )[0]
    return probabilities


@lru_cache(1)
def _model() -> Any:
    return onnx_session("silero-vad", "silero_vad/data/silero_vad_16k_sequence.onnx")
