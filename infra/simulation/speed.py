"""The synthesis speed of one GPU, by the number of texts in flight."""

import json
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from infra.simulation.assumptions import AssumedSpeed

FRAMES_PER_SECOND = 12.5


@dataclass(frozen=True, slots=True)
class Speed:
    """A frame of every text in flight takes `base` seconds and `per_stream` more for each of them."""

    gpu: str
    base: float
    per_stream: float
    source: str
    is_measured: bool = False

    def seconds_per_frame(self, streams: int) -> float:
        """Return the duration of the next frame for this many streams."""
        return self.base + self.per_stream * streams

    def real_time(self, streams: int) -> float:
        """Return the seconds of audio generated per second."""
        return streams / FRAMES_PER_SECOND / self.seconds_per_frame(streams)

    def times(self, factor: float) -> "Speed":
        """Return the speed of a GPU faster by this factor."""
        return replace(self, base=self.base / factor, per_stream=self.per_stream / factor)


class Measurement(BaseModel):
    """The results that `make bench` writes for an engine on a GPU."""

    model_config = ConfigDict(extra="ignore")

    date: date
    machine: str
    device: str
    sizes: str
    ms_per_frame: dict[int, float]
    """By the number of texts in flight."""


def load_speed(results: Path, assumed: AssumedSpeed) -> Speed:
    """Return the newest measurement of a published model on a GPU, or the assumed speed if there is none.

    The folder contains other results too, without frame times.
    """
    found = [json.loads(file.read_text()) for file in results.glob("*.json")]
    read = [Measurement.model_validate(one) for one in found if "ms_per_frame" in one]
    fit = [one for one in read if one.sizes == "published" and one.device.startswith("cuda")]
    return _fitted(max(fit, key=lambda one: one.date)) if fit else _from_assumption(assumed)


def _fitted(measured: Measurement) -> Speed:
    """Fit a line to the measured frame times."""
    seconds = [ms / 1000 for ms in measured.ms_per_frame.values()]
    per_stream, base = np.polyfit(list(measured.ms_per_frame), seconds, 1)
    source = f"measured on {measured.date}"
    return Speed(measured.machine, max(float(base), 0.001), max(float(per_stream), 0.0), source, is_measured=True)


def _from_assumption(assumed: AssumedSpeed) -> Speed:
    return Speed(
        assumed.gpu, assumed.base_ms_per_frame / 1000, assumed.ms_per_frame_and_stream / 1000, assumed.source
    )
