"""Values that the simulation reads from the templates."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.simulation.autoscaling import Readings, is_on
from infra.simulation.cloudformation import Resolver, unrolled
from infra.simulation.policy import Alarm, Policy, Step
from infra.simulation.scenarios import filled_wake, sleep_without_arrivals
from infra.simulation.template import NotInTemplate, read_policy
from pipeline.settings import Settings

ROOT = Path(__file__).parents[3]


def default(parameter: str) -> Any:
    """Return a default from the text of the template, without the code under test."""
    text = (ROOT / "template.yaml").read_text().split(f"\n  {parameter}:\n")[1]
    return yaml.safe_load(text.split("Default:")[1].split("\n")[0])


def test_policy_uses_template_defaults() -> None:
    scaling = read_policy(ROOT).scaling
    assert (scaling.min_tasks, scaling.max_tasks) == (default("MinWorkers"), default("MaxWorkers"))
    assert scaling.max_instances == default("MaxWorkers")
    assert scaling.batch_size == default("WorkerBatchSize")
    assert scaling.instance_type == default("InstanceType")
    assert scaling.is_spot == (default("Spot") == "on")
    assert [policy.target for policy in scaling.tracking] == [default("BacklogPerWorker")]


def test_policy_resolves_nested_parameters() -> None:
    policy = read_policy(ROOT, {"MaxWorkers": 7, "Spot": "on", "HttpConcurrency": 900, "WorkerBatchSize": 3})
    assert (policy.scaling.max_tasks, policy.scaling.max_instances) == (7, 7)
    assert policy.scaling.is_spot
    assert policy.scaling.batch_size == 3
    assert policy.limits.function_concurrency == 900


def test_policy_zero_concurrency_is_none() -> None:
    assert read_policy(ROOT, {"HttpConcurrency": 0}).limits.function_concurrency is None


def test_policy_step_adjustments() -> None:
    steps = {policy.name: policy for policy in read_policy(ROOT).scaling.steps}
    assert len(steps) == 2
    for policy in steps.values():
        assert len(policy.alarms) == 1
        assert policy.cooldown_seconds > 0
    assert [step.adjustment for step in steps["WakePolicy"].steps] == sorted(
        step.adjustment for step in steps["WakePolicy"].steps
    )
    assert (steps["WakePolicy"].steps[0].adjustment, steps["WakePolicy"].adjustment) == (1, "ExactCapacity")
    assert Step(-math.inf, 0, 0) in steps["SleepPolicy"].steps


def test_late_ecs_metric_starts_no_worker() -> None:
    """Otherwise each minute in which SQS metrics arrive before ECS metrics would start another worker."""
    queue = {"ApproximateNumberOfMessagesVisible": 5.0, "ApproximateNumberOfMessagesNotVisible": 16.0}
    readings = Readings([queue | {"CPUUtilization:SampleCount": 1.0}, queue])
    assert not is_on(wake_alarm(read_policy(ROOT)), readings)
    assert is_on(wake_alarm(filled_wake(read_policy(ROOT))), readings)


def wake_alarm(policy: Policy) -> Alarm:
    return next(step for step in policy.scaling.steps if step.name == "WakePolicy").alarms[0]


def test_idle_minutes_set_alarm_periods() -> None:
    policies = {policy.name: policy for policy in read_policy(ROOT, {"IdleMinutes": 13}).scaling.steps}
    alarm = policies["SleepPolicy"].alarms[0]
    assert (alarm.evaluation_periods, alarm.datapoints, alarm.period_seconds) == (13, 13, 60)


def test_unrolled_for_each() -> None:
    fragment = {"${Each}Errors": {"Type": "T", "Properties": {"Name": {"Fn::Sub": "a-${Each}"}}}}
    made = dict(unrolled({"Fn::ForEach::Some": ["Each", ["X", "Y"], fragment], "Z": {"Type": "U"}}))
    assert list(made) == ["XErrors", "YErrors", "Z"]
    assert made["YErrors"]["Properties"]["Name"] == {"Fn::Sub": "a-Y"}


def test_alarmed_metrics_are_counted() -> None:
    bare = read_policy(ROOT, {"AlarmEmail": ""})
    # Wake, Sleep, and the two alarms that target tracking creates for its three metrics.
    assert bare.alarmed_metrics == 2 + 3 + 2 * 3
    assert read_policy(ROOT).alarmed_metrics > bare.alarmed_metrics + 15


def test_policy_uses_settings() -> None:
    policy, settings = read_policy(ROOT), Settings()
    assert policy.limits.preview_wait_seconds == settings.preview_wait_seconds
    assert policy.limits.job_deadline_seconds == settings.job_deadline.total_seconds()
    assert policy.limits.previews_in_flight == settings.previews_in_flight
    assert policy.scaling.drain_seconds == settings.worker_drain_seconds < policy.scaling.stop_seconds


def test_earlier_policies_differ() -> None:
    now = read_policy(ROOT)
    assert sleep_without_arrivals(now).scaling.steps != now.scaling.steps
    assert sleep_without_arrivals(now).scaling.tracking != now.scaling.tracking
    assert filled_wake(now).scaling.steps != now.scaling.steps


def test_template_without_service_refused(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text("Resources:\n  Topic: {Type: AWS::SNS::Topic}\n")
    with pytest.raises(NotInTemplate, match="ScalableTarget"):
        read_policy(tmp_path)


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ({"Ref": "Count"}, 3),
        ({"Ref": "Queue"}, {"Ref": "Queue"}),
        ({"Fn::Sub": "a / ${Count}"}, "a / 3"),
        ({"Fn::Sub": "${Queue.Arn}/${Count}"}, {"Fn::Sub": "${Queue.Arn}/${Count}"}),
        ({"Fn::If": ["Is", "yes", "no"]}, "yes"),
        ({"Fn::If": ["Isnt", "yes", "no"]}, "no"),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "Size"}, "GB"]}, 24),
        ({"a": {"Ref": "AWS::NoValue"}, "b": [{"Ref": "Count"}, {"Ref": "AWS::NoValue"}]}, {"b": [3]}),
    ],
)
def test_resolver_fills_in_known_values(value: object, resolved: object) -> None:
    template = {
        "Parameters": {"Count": {"Default": 1}, "Size": {"Default": "small"}},
        "Conditions": {
            "Is": {"Fn::Equals": [{"Ref": "Count"}, 3]},
            "Isnt": {"Fn::And": [{"Condition": "Is"}, {"Fn::Not": [{"Condition": "Is"}]}]},
        },
        "Mappings": {"Sizes": {"small": {"GB": 24}}},
    }
    assert Resolver(template, {"Count": 3}).resolve(value) == resolved
