"""CloudWatch's alarms and Application Auto Scaling, once a minute: from metrics to the number of tasks."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from infra.simulation.assumptions import Aws
from infra.simulation.metric_math import EMPTY, evaluate
from infra.simulation.policy import Alarm, Metric, Scaling, Step, StepScaling, TargetTracking

Sample = Mapping[str, float]

NEVER = -math.inf
EXTRA_PERIODS = 2  # an alarm evaluates as many more where datapoints are missing
TRACKING_IN_SHARE = 0.9  # target tracking scales in below 90 % of its target

_STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "Average": statistics.fmean,
    "Maximum": max,
    "Minimum": min,
    "Sum": sum,
    "SampleCount": len,
}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": lambda a, b: a > b,
    "GreaterThanOrEqualToThreshold": lambda a, b: a >= b,
    "LessThanThreshold": lambda a, b: a < b,
    "LessThanOrEqualToThreshold": lambda a, b: a <= b,
}


@dataclass(frozen=True, slots=True)
class Readings:
    """The metrics available for the last minutes, and how an empty series is treated."""

    samples: Sequence[Sample]
    fills_empty: bool = True
    """Whether `FILL` adds datapoints to a series that has none in the evaluation range."""

    def last(self, minutes: int) -> "Readings":
        """Return only the last minutes."""
        return replace(self, samples=self.samples[-minutes:])


def values_of(metric: Metric, readings: Readings) -> list[float]:
    """Return the metric at each minute; NaN where it has no datapoint."""
    without = {
        name: math.nan if readings.fills_empty or any(name in one for one in readings.samples) else EMPTY
        for name in metric.inputs.values()
    }
    return [
        evaluate(metric.expression, {id_: sample.get(name, without[name]) for id_, name in metric.inputs.items()})
        for sample in readings.samples
    ]


def datapoints(alarm: Alarm, readings: Readings) -> list[float]:
    """Return the datapoints that an alarm evaluates, each of one period: the latest available, as in CloudWatch.

    Missing ones count only where the evaluation range has too few others.
    """
    length = max(1, alarm.period_seconds // 60)
    periods_looked_at = alarm.evaluation_periods + EXTRA_PERIODS
    values = values_of(alarm.metric, readings.last(periods_looked_at * length))
    starts = range(len(values) % length, len(values), length)
    points = [
        _aggregate(alarm, [value for value in values[i : i + length] if not math.isnan(value)]) for i in starts
    ]
    real = [point for point in points if not math.isnan(point)]
    return (real if len(real) >= alarm.evaluation_periods else points)[-alarm.evaluation_periods :]


def _aggregate(alarm: Alarm, values: Sequence[float]) -> float:
    return _STATISTICS[alarm.statistic](values) if values else math.nan


def is_on(alarm: Alarm, readings: Readings) -> bool:
    """Return whether enough of the last datapoints are breaching."""
    compare = _COMPARISONS[alarm.comparison]
    points = datapoints(alarm, readings)
    beyond = [
        alarm.missing_is_breaching if math.isnan(point) else compare(point, alarm.threshold) for point in points
    ]
    return len(points) == alarm.evaluation_periods and sum(beyond) >= alarm.datapoints


def stepped(policy: StepScaling, alarm: Alarm, readings: Readings, tasks: int) -> int:
    """Return the number of tasks that a step policy sets while its alarm is on."""
    latest = datapoints(alarm, readings)[-1]
    distance = (0.0 if math.isnan(latest) else latest) - alarm.threshold
    for step in policy.steps:
        if _covers(step, distance):
            return round(_adjusted(policy, step.adjustment, tasks))
    return tasks


def _covers(step: Step, distance: float) -> bool:
    """Return whether a step applies: its lower bound is inclusive above the threshold, its upper bound below."""
    if step.upper <= 0:
        return step.lower < distance <= step.upper
    return step.lower <= distance < step.upper


def _adjusted(policy: StepScaling, adjustment: float, tasks: int) -> float:
    match policy.adjustment:
        case "ExactCapacity":
            return adjustment
        case "ChangeInCapacity":
            return tasks + adjustment
        case "PercentChangeInCapacity":
            change = tasks * adjustment / 100
            return tasks + (math.copysign(max(1.0, abs(change)), change) if change else 0)


def tracked(policy: TargetTracking, readings: Readings, tasks: int, aws: Aws) -> int:
    """Return the number of tasks that brings a metric to its target; the current one if there are no datapoints."""
    out = _last(policy.metric, readings, aws.tracking_out_datapoints)
    if len(out) == aws.tracking_out_datapoints and all(value > policy.target for value in out):
        return math.ceil(tasks * out[-1] / policy.target)
    back = _last(policy.metric, readings, aws.tracking_in_datapoints)
    enough = len(back) == aws.tracking_in_datapoints
    if not policy.only_out and enough and all(value < TRACKING_IN_SHARE * policy.target for value in back):
        return min(tasks, math.ceil(tasks * back[-1] / policy.target))
    return tasks


def _last(metric: Metric, readings: Readings, count: int) -> list[float]:
    """Return the latest available datapoints, of a range slightly longer than needed."""
    values = values_of(metric, readings.last(count + EXTRA_PERIODS))
    return [value for value in values if not math.isnan(value)][-count:]


class Autoscaler:
    """Evaluates the policies once a minute and tracks their cooldowns."""

    def __init__(self, scaling: Scaling, aws: Aws) -> None:
        self._scaling = scaling
        self._aws = aws
        self._acted: dict[str, float] = {}

    def decide(self, now: float, tasks: int, readings: Readings) -> int:
        """Return the new number of tasks."""
        stepped_to = self._by_steps(now, tasks, readings)
        tracked_to = self._by_tracking(now, tasks, readings)
        wanted = {**stepped_to, **tracked_to}
        up = {name: count for name, count in wanted.items() if count > tasks}
        down = {name: count for name, count in stepped_to.items() if count < tasks}
        # Target tracking scales in only if all such policies would.
        if tracked_to and all(count < tasks for count in tracked_to.values()):
            down |= tracked_to
        return self._follow(now, tasks, up or down)

    def _follow(self, now: float, tasks: int, wanted: Mapping[str, int]) -> int:
        """Apply the largest of the policies' numbers, in either direction."""
        if not wanted:
            return tasks
        count = min(max(max(wanted.values()), self._scaling.min_tasks), self._scaling.max_tasks)
        if count != tasks:
            self._acted |= dict.fromkeys(wanted, now)
        return count

    def _by_steps(self, now: float, tasks: int, readings: Readings) -> dict[str, int]:
        return {
            policy.name: stepped(policy, alarm, readings, tasks)
            for policy in self._scaling.steps
            for alarm in policy.alarms
            if self._is_rested(policy.name, now, policy.cooldown_seconds) and is_on(alarm, readings)
        }

    def _by_tracking(self, now: float, tasks: int, readings: Readings) -> dict[str, int]:
        found = {policy.name: self._track(policy, now, tasks, readings) for policy in self._scaling.tracking}
        return {name: count for name, count in found.items() if count is not None}

    def _track(self, policy: TargetTracking, now: float, tasks: int, readings: Readings) -> int | None:
        wanted = tracked(policy, readings, tasks, self._aws)
        cooldown = policy.scale_out_cooldown_seconds if wanted > tasks else policy.scale_in_cooldown_seconds
        return wanted if self._is_rested(policy.name, now, cooldown) else tasks

    def _is_rested(self, name: str, now: float, cooldown_seconds: float) -> bool:
        return now - self._acted.get(name, NEVER) >= cooldown_seconds
