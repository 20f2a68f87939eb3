"""Predicted opinion scores of noisy speech with DNSMOS P.835 (arXiv:2110.01763), from the package speechmos."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gpu_runner.analysis.models import onnx_session
from pipeline.audio.reference_audio import Samples

SEGMENT = 144_160  # samples, 9.01 s
# Polynomials from the model's outputs to scores, as in `speechmos.dnsmos`: speech signal and background.
_TO_SIGNAL = (-0.08397278, 1.22083953, 0.0052439)
_TO_BACKGROUND = (-0.13166888, 1.60915514, -0.39604546)


@dataclass(frozen=True, slots=True)
class Opinion:
    """Mean opinion scores from 1 to 5: of the speech itself, and of the absence of noise."""

    signal: float
    background: float


def predict_opinion(samples: Samples) -> Opinion:
    """Return the scores of samples at `MODEL_RATE`: the mean over segments of 9 s, about one for each 9 s.

    Raises
    ------
    PackageMissing
        speechmos is not installed.
    """
    if len(samples) < SEGMENT:  # as speechmos does
        samples = np.resize(samples, SEGMENT)
    count = max(1, round(len(samples) / SEGMENT))
    starts = np.linspace(0, len(samples) - SEGMENT, count, dtype=int)
    outputs = [_model().run(None, {"input_1": samples[None, start : start + SEGMENT]})[0][0] for start in starts]
    signal, background, _overall = np.array(outputs).T
    return Opinion(
        float(np.polyval(_TO_SIGNAL, signal).mean()), float(np.polyval(_TO_BACKGROUND, background).mean())
    )


@lru_cache(1)
def _model() -> Any:
    return onnx_session("speechmos", "speechmos/dnsmos_models/sig_bak_ovr.onnx")
