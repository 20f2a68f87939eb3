"""The simulations for the docs: every run by its name, with its policy and its day."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from infra.simulation import traffic
from infra.simulation.assumptions import Assumptions, Traffic
from infra.simulation.policy import Metric, Policy, Step, StepScaling
from infra.simulation.simulated_day import DayResult, Setup, simulate_day
from infra.simulation.speed import Speed
from infra.simulation.template import read_policy
from infra.simulation.traffic import Day

SIZED = {"MaxWorkers": 24, "HttpConcurrency": 900}
UNFILLED = {"fills_empty_series": False, "reports_zeros": False}
AS_BUILT = {"is_fair": True, "is_limited": True}

MakeDay = Callable[[Traffic], Day]
Change = Callable[[Policy], Policy]


@dataclass(frozen=True, slots=True)
class Run:
    """One day to simulate."""

    label: str
    make_day: MakeDay
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the template that differ from the defaults."""
    change: Change = lambda policy: policy
    """The differences from the template."""
    setup: Mapping[str, Any] = field(default_factory=dict)
    speed: float = 1.0


def _steady(per_day: float) -> MakeDay:
    return lambda given: traffic.steady(given, per_day)


def _curve(per_day: float) -> MakeDay:
    return lambda given: traffic.day_curve(given, per_day)


def _burst(count: int, minutes: float) -> MakeDay:
    return lambda given: traffic.burst_from_zero(given, count, minutes)


def _noisy(given: Traffic) -> Day:
    return traffic.noisy_tenant(given, 20_000, 5_000)


def _tenfold(given: Traffic) -> Day:
    return traffic.tenfold_peak(given, 20_000)


def sleep_without_arrivals(policy: Policy) -> Policy:
    """Scale by the messages queue_time and in flight at the end of a minute alone, as the templates first did."""
    steps = tuple(
        replace(step, alarms=tuple(replace(one, metric=_without_term(one.metric, "sent, ")) for one in step.alarms))
        for step in policy.scaling.steps
    )
    tracking = tuple(replace(one, metric=_without_term(one.metric, " + 1")) for one in policy.scaling.tracking)
    return replace(policy, scaling=replace(policy.scaling, steps=steps, tracking=tracking))


def filled_wake(policy: Policy) -> Policy:
    """Start one more worker while ECS publishes none, or is late to, as the templates first did."""
    steps = tuple(_filled(step) if step.name == "WakePolicy" else step for step in policy.scaling.steps)
    return replace(policy, scaling=replace(policy.scaling, steps=steps))


def _filled(step: StepScaling) -> StepScaling:
    inputs = {"running": "CPUUtilization:SampleCount", "waiting": "ApproximateNumberOfMessagesVisible"}
    metric = Metric("IF(FILL(running, 0) < 1, waiting, 0)", inputs)
    alarms = tuple(replace(alarm, metric=metric, threshold=1) for alarm in step.alarms)
    more = (Step(0, math.inf, 1),)
    return replace(step, adjustment="ChangeInCapacity", cooldown_seconds=600, steps=more, alarms=alarms)


def _without_term(metric: Metric, part: str) -> Metric:
    return replace(metric, expression=metric.expression.replace(part, ""))


SCENARIOS = (
    Run("first preview after a night", _burst(1, 10)),
    Run("burst from zero: 30 in a minute", _burst(30, 1)),
    Run("burst from zero: 500 in 10 minutes", _burst(500, 10)),
    Run("steady: 1,000 a day", _steady(1_000)),
    Run("steady: 20,000 a day", _steady(20_000)),
    Run("tenfold peak for an hour, 20,000 a day", _tenfold),
    Run("noisy owner: 5,000 at once, 100 others with 20,000 a day", _noisy, setup=AS_BUILT),
)
VOLUMES = (
    Run("idle", _burst(0, 1)),
    Run("1,000", _curve(1_000)),
    Run("100,000", _curve(100_000)),
    Run("1,000,000", _curve(1_000_000), SIZED),
)
NOISE = (
    Run("no protection", _noisy),
    Run("limit on previews in flight only", _noisy, setup={"is_limited": True}),
    Run("fair queue only", _noisy, setup={"is_fair": True}),
    Run("both (default)", _noisy, setup=AS_BUILT),
)
CHANGES = (
    (
        "one preview every minute or two: scale in",
        Run("before: by messages waiting and in flight", _steady(1_000), change=sleep_without_arrivals),
        Run("now: and by messages sent", _steady(1_000)),
    ),
    (
        "the same with 20,000 a day",
        Run("before", _steady(20_000), change=sleep_without_arrivals),
        Run("now", _steady(20_000)),
    ),
    (
        "first preview, if `FILL` does not fill a series without datapoints",
        Run("before: `FILL` on the number of workers", _burst(1, 10), change=filled_wake, setup=UNFILLED),
        Run("now: by SQS metrics only", _burst(1, 10), setup=UNFILLED),
    ),
    (
        "tenfold peak",
        Run("before: batch of 8, BacklogPerWorker 16", _tenfold, {"WorkerBatchSize": 8, "BacklogPerWorker": 16}),
        Run("now: batch of 16, BacklogPerWorker 12", _tenfold),
    ),
    (
        "100,000 a day: scale out when workers are full, or earlier",
        Run("before: at 16 jobs per worker", _curve(100_000), {"BacklogPerWorker": 16}),
        Run("now: at 12 jobs per worker", _curve(100_000)),
    ),
    (
        "first preview after six hours without access to the queue",
        Run("before: no access", _burst(1, 10), setup={"queue_is_kept_active": False}),
        Run("now: the sweeper reads its length every minute", _burst(1, 10)),
    ),
)
CHOICES = (
    Run("defaults", _curve(20_000)),
    Run("Spot", _curve(20_000), {"Spot": "on"}),
    Run("MinWorkers 1", _curve(20_000), {"MinWorkers": 1}),
    Run("BacklogPerWorker 8", _curve(20_000), {"BacklogPerWorker": 8}),
    Run("WorkerBatchSize 32, BacklogPerWorker 24", _curve(20_000), {"WorkerBatchSize": 32, "BacklogPerWorker": 24}),
)
SPEEDS = tuple(Run(f"× {factor:g}", _curve(100_000), SIZED, speed=factor) for factor in (0.25, 1, 4))


@dataclass(slots=True)
class Simulator:
    """Simulates runs, each once."""

    root: Path
    assumptions: Assumptions
    speed: Speed
    results: dict[int, DayResult] = field(default_factory=dict)
    read: dict[tuple[tuple[str, Any], ...], Policy] = field(default_factory=dict)

    def default_policy(self) -> Policy:
        """Return the policy of a deployment with default parameters."""
        return self._read({})

    def _read(self, parameters: Mapping[str, Any]) -> Policy:
        key = tuple(sorted(parameters.items()))
        if key not in self.read:
            self.read[key] = read_policy(self.root, parameters)
        return self.read[key]

    def run(self, run: Run) -> DayResult:
        """Simulate a run, or return its cached results."""
        if id(run) not in self.results:
            policy = run.change(self._read(run.parameters))
            setup = Setup(policy, self.assumptions, self.speed.times(run.speed), **run.setup)
            self.results[id(run)] = simulate_day(run.make_day(self.assumptions.traffic), setup)
        return self.results[id(run)]
