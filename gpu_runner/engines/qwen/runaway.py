"""Detects speech that will not end by itself, while it is generated.

Others report it for one of 200 to 300 requests. Each decoded chunk is checked together with the frames before it,
and nothing else matters, so a row is stopped at the same frame in any batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from gpu_runner.engines.qwen.checkpoint.model import FRAME_SAMPLES, SAMPLE_RATE
from pipeline.audio.reference_audio import Samples

CHECK_FRAMES = 12  # between two checks of the codes, which take about 0.1 ms
LOOP_FRAMES = 50  # 4 s that equal the frames up to `LONGEST_PERIOD` earlier
LONGEST_PERIOD = 25
ECHO_FRAMES = 25  # 2 s that equal a section of the reference
ECHO_CODES = 8  # different codes among them, at least: silence is alike in any speech
SAME = 0.9  # share of equal codes
SILENT_SECONDS = 4.0  # longer than any pause within a part
SILENT = 10 ** (-45 / 20)  # relative to the peak of the part
INAUDIBLE = 10 ** (-60 / 20)  # of full scale


@dataclass(slots=True)
class RunawayDetector:
    """Checks one row. Only the first code of a frame is compared: it carries the words, the others the sound."""

    frames: int = 0
    peak: float = INAUDIBLE
    silence: int = 0  # samples since the last audible one

    def check(self, codes: Sequence[Sequence[int]], reference: Tensor | None, samples: Samples) -> str | None:
        """Check the next samples of a row. Return the kind of runaway, or None.

        `codes` are the frames of the row, at least up to these samples. `reference` are the frames of the voice's
        recording, [F, G].
        """
        self.frames += len(samples) // FRAME_SAMPLES
        heights = np.abs(samples)
        self.peak = max(self.peak, float(heights.max(initial=0.0)))
        audible = np.flatnonzero(heights > SILENT * self.peak)
        self.silence = len(samples) - 1 - int(audible[-1]) if len(audible) else self.silence + len(samples)
        if self.silence > SILENT_SECONDS * SAMPLE_RATE:
            return "silent"
        if self.frames % CHECK_FRAMES != 0:
            return None
        start = max(0, self.frames - LOOP_FRAMES - LONGEST_PERIOD)
        newest = [frame[0] for frame in codes[start : self.frames]]
        if _contains(newest[:-1], newest[-LOOP_FRAMES:], LOOP_FRAMES):
            return "looping"
        newest = newest[-ECHO_FRAMES:]
        if reference is not None and len(set(newest)) >= ECHO_CODES:
            return "echoing the reference" if _contains(reference[:, 0].numpy(), newest, ECHO_FRAMES) else None
        return None


def _contains(codes: Sequence[int] | np.ndarray, section: Sequence[int], length: int) -> bool:
    """Return whether `codes` contain the section, which must have `length` codes, with few differences."""
    if len(section) < length or len(codes) < length:
        return False
    sections = np.lib.stride_tricks.sliding_window_view(np.array(codes), length)
    return bool((sections == np.array(section)).mean(axis=1).max() >= SAME)
