"""The publication delay of CloudWatch metrics: each value is available only some time after its minute."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from infra.simulation.assumptions import Aws
from infra.simulation.autoscaling import Sample

KEPT_MINUTES = 120  # no alarm evaluates a longer range


@dataclass(slots=True)
class Published:
    """The values measured in each minute, and when each becomes available.

    Values of one service share its delay of that minute, as they are sent together; some arrive later still.
    """

    aws: Aws
    random: np.random.Generator
    _minutes: deque[tuple[Sample, dict[str, float]]] = field(default_factory=lambda: deque(maxlen=KEPT_MINUTES))

    def add(self, now: float, sample: Sample) -> None:
        """Add the values measured in the minute that ends now."""
        aws = self.aws
        late = {source: self.random.exponential(aws.metric_lag_spread_seconds) for source in ("SQS", "ECS")}
        at = {
            name: now
            + aws.metric_lag_seconds
            + late[_source(name)]
            + aws.metric_seconds * float(self.random.random() < aws.straggling_share)
            for name in sample
        }
        self._minutes.append((sample, at))

    def readable(self, now: float) -> list[Sample]:
        """Return the values available now: those of each minute that have arrived, up to the last with any."""
        read: list[Sample] = [
            {name: value for name, value in sample.items() if at[name] <= now} for sample, at in self._minutes
        ]
        while read and not read[-1]:
            read.pop()
        return read


def _source(name: str) -> str:
    return "ECS" if name.startswith("CPUUtilization") else "SQS"
