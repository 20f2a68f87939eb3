"""Alarms and policies of CloudWatch and Application Auto Scaling, minute by minute."""

import math
from dataclasses import replace
from typing import Any

import pytest

from infra.simulation.assumptions import load_assumptions
from infra.simulation.autoscaling import Autoscaler, Readings, is_on, stepped, tracked, values_of
from infra.simulation.metric_math import UnknownMath, evaluate
from infra.simulation.policy import Alarm, Metric, Scaling, Step, StepScaling, TargetTracking

AWS = load_assumptions().aws
WAITING = Metric("waiting", {"waiting": "Waiting"})
ALARM = Alarm("some", WAITING, "Maximum", 60, 3, 2, 1, "GreaterThanOrEqualToThreshold")
UP = StepScaling("up", "ChangeInCapacity", 300, (Step(0, 10, 1), Step(10, math.inf, 3)), (ALARM,))
FOLLOW = TargetTracking("follow", WAITING, 10, 60, 300, only_out=False)
SCALING = Scaling(0, 8, (), (), 8, 100, 8, "g6.xlarge", False, 8, 100, 120, 80, 125)


def minutes(*waiting: float) -> Readings:
    return Readings([{} if math.isnan(count) else {"Waiting": count} for count in waiting])


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("a + b * 2", 8),
        ("(a + b) / 2", 2.5),
        ("a / 0", math.nan),
        ("FILL(gone, 0) + a", 2),
        ("gone + a", math.nan),
        ("IF(FILL(gone, 0) < 1, b, a)", 3),
        ("MAX([a, b, gone])", 3),
        ("SUM([a, b, gone])", 5),
        ("IF(gone < 1, b, a)", math.nan),
        ("-a", -2),
    ],
)
def test_metric_math(expression: str, value: float) -> None:
    assert evaluate(expression, {"a": 2, "b": 3, "gone": math.nan}) == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("expression", ["SEARCH('x')", "a.b", "c + 1"])
def test_metric_math_unknown(expression: str) -> None:
    with pytest.raises(UnknownMath, match="is not known"):
        evaluate(expression, {"a": 1})


@pytest.mark.parametrize(
    ("waiting", "on"),
    [((0, 0, 0), False), ((0, 0, 5), False), ((0, 5, 5), True), ((5, 0, 5), True), ((5, 5), False)],
)
def test_alarm_datapoints_to_alarm(waiting: tuple[float, ...], on: bool) -> None:
    assert is_on(ALARM, minutes(*waiting)) == on


@pytest.mark.parametrize("is_breaching", [True, False])
def test_alarm_missing_datapoints(is_breaching: bool) -> None:
    alarm = replace(ALARM, missing_is_breaching=is_breaching)
    assert is_on(alarm, minutes(math.nan, math.nan, math.nan)) == is_breaching


def test_alarm_late_datapoints() -> None:
    assert is_on(ALARM, minutes(5, 5, 5, math.nan))
    assert not is_on(ALARM, minutes(0, 0, 5, math.nan))


@pytest.mark.parametrize(("fills_empty", "value"), [(True, [0, 0]), (False, [math.nan, math.nan])])
def test_fill_of_empty_series(fills_empty: bool, value: list[float]) -> None:
    """The guide describes FILL for gaps, but not for an empty series."""
    metric = Metric("FILL(gone, 0)", {"gone": "Gone"})
    assert values_of(metric, Readings([{}, {}], fills_empty)) == pytest.approx(value, nan_ok=True)
    assert values_of(metric, Readings([{"Gone": 2}, {}], fills_empty)) == [2, 0]


def test_alarm_longer_periods() -> None:
    alarm = replace(ALARM, period_seconds=120, evaluation_periods=2, datapoints=2)
    assert is_on(alarm, minutes(5, 0, 0, 5))
    assert not is_on(alarm, minutes(5, 5, 0, 0))


@pytest.mark.parametrize(("waiting", "tasks"), [(1, 3), (10, 3), (11, 5), (50, 5)])
def test_step_scaling_by_distance(waiting: float, tasks: int) -> None:
    assert stepped(UP, ALARM, minutes(0, waiting, waiting), 2) == tasks


def test_step_scaling_at_threshold() -> None:
    down = replace(UP, adjustment="ExactCapacity", steps=(Step(-math.inf, 0, 0),))
    alarm = replace(ALARM, threshold=0, comparison="LessThanOrEqualToThreshold")
    assert stepped(down, alarm, minutes(0, 0, 0), 4) == 0


def test_target_tracking_delays() -> None:
    assert tracked(FOLLOW, minutes(30, 30), 2, AWS) == 2
    assert tracked(FOLLOW, minutes(30, 30, 25), 2, AWS) == 5
    assert tracked(FOLLOW, minutes(*[5] * 14), 4, AWS) == 4
    assert tracked(FOLLOW, minutes(*[5] * 15), 4, AWS) == 2
    assert tracked(FOLLOW, minutes(*[9.5] * 15), 4, AWS) == 4
    assert tracked(replace(FOLLOW, only_out=True), minutes(*[5] * 15), 4, AWS) == 4


def test_policy_cooldown() -> None:
    scaler = Autoscaler(replace(SCALING, steps=(UP,)), AWS)
    samples = minutes(5, 5, 5)
    assert scaler.decide(0, 0, samples) == 1
    assert scaler.decide(240, 1, samples) == 1
    assert scaler.decide(300, 1, samples) == 2


def test_largest_policy_wins_within_bounds() -> None:
    scaler = Autoscaler(replace(SCALING, steps=(UP,), tracking=(FOLLOW,)), AWS)
    assert scaler.decide(0, 2, minutes(30, 30, 30)) == 6
    assert Autoscaler(replace(SCALING, tracking=(FOLLOW,)), AWS).decide(0, 5, minutes(90, 90, 90)) == 8


def test_scale_out_wins_over_scale_in() -> None:
    sleep: Any = replace(
        UP,
        name="sleep",
        adjustment="ExactCapacity",
        steps=(Step(-math.inf, math.inf, 0),),
        alarms=(replace(ALARM, comparison="GreaterThanOrEqualToThreshold"),),
    )
    scaler = Autoscaler(replace(SCALING, steps=(sleep,), tracking=(FOLLOW,)), AWS)
    assert scaler.decide(0, 2, minutes(30, 30, 30)) == 6
