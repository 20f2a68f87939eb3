"""The scaling policy as plain data: the templates' values, independent of the names they have there."""

from dataclasses import dataclass
from typing import Literal

Statistic = Literal["Average", "Maximum", "Minimum", "Sum", "SampleCount"]
Adjustment = Literal["ChangeInCapacity", "ExactCapacity", "PercentChangeInCapacity"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A CloudWatch metric, or an expression of several."""

    expression: str
    """In CloudWatch's metric math, over `inputs`."""
    inputs: dict[str, str]
    """Names of metrics by their ids in the expression."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """The condition under which a metric is too high or too low."""

    name: str
    metric: Metric
    statistic: Statistic
    period_seconds: int
    evaluation_periods: int
    datapoints: int
    threshold: float
    comparison: str
    missing_is_breaching: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """The adjustment for a range of distances from the threshold."""

    lower: float
    upper: float
    adjustment: float


@dataclass(frozen=True, slots=True)
class StepScaling:
    """Changes the number of tasks in steps while an alarm is on."""

    name: str
    adjustment: Adjustment
    cooldown_seconds: int
    steps: tuple[Step, ...]
    alarms: tuple[Alarm, ...]


@dataclass(frozen=True, slots=True)
class TargetTracking:
    """Keeps a metric at its target."""

    name: str
    metric: Metric
    target: float
    scale_out_cooldown_seconds: int
    scale_in_cooldown_seconds: int
    only_out: bool


@dataclass(frozen=True, slots=True)
class Scaling:
    """Everything that determines the number of GPUs and the load of each."""

    min_tasks: int
    max_tasks: int
    steps: tuple[StepScaling, ...]
    tracking: tuple[TargetTracking, ...]
    max_instances: int
    target_capacity: int
    largest_launch: int
    instance_type: str
    is_spot: bool
    batch_size: int
    drain_seconds: float
    stop_seconds: int
    disk_gigabytes: int
    disk_megabytes_per_second: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Other limits of the service."""

    previews_in_flight: int | None
    """Per owner."""
    preview_wait_seconds: float
    job_deadline_seconds: float
    function_concurrency: int | None
    """Reserved for the function that answers HTTP; None: what the account has."""
    function_megabytes: int
    function_is_arm: bool
    requests_per_second: float | None
    """Of the simulator; None: what the account has."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that was read from the templates."""

    scaling: Scaling
    limits: Limits
    alarmed_metrics: int
    """Number of metrics in alarms, by which they are billed."""
    preview_metrics: int
    """Number of metrics that previews write."""
