"""What scaling is told to do, as plain data: the templates' numbers, whatever they are called there."""

from dataclasses import dataclass
from typing import Literal

Statistic = Literal["Average", "Maximum", "Minimum", "Sum", "SampleCount"]
Adjustment = Literal["ChangeInCapacity", "ExactCapacity", "PercentChangeInCapacity"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of CloudWatch, or a sum made of some."""

    expression: str
    """In CloudWatch's metric math, over `inputs`."""
    inputs: dict[str, str]
    """Names of metrics by the ids that the expression calls them."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """When something is called too much or too little."""

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
    """What to do when the metric lies so far from the threshold."""

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
    """All that decides how many GPUs there are and what each does."""

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
    """What else bounds the service."""

    previews_in_flight: int | None
    """Of one owner."""
    preview_wait_seconds: float
    job_deadline_seconds: float
    function_concurrency: int | None
    """Reserved for the function that answers HTTP; None: what the account has."""
    function_megabytes: int
    function_is_arm: bool
    requests_per_second: float | None
    """Of the stage; None: what the account has."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything that was read."""

    scaling: Scaling
    limits: Limits
    alarmed_metrics: int
    """How many metrics go into alarms, which are billed by them."""
