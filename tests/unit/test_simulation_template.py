"""What the simulation reads out of the templates: these very ones, and others whose numbers are known."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.simulation.cloudformation import Resolver
from infra.simulation.policy import Step
from infra.simulation.scenarios import forgetful_sleep, hasty_follow
from infra.simulation.template import NotInTemplate, read_policy
from pipeline.settings import Settings

ROOT = Path(__file__).parents[2]


def default(parameter: str) -> Any:
    """Read a default by its text, past everything that is tested here."""
    text = (ROOT / "template.yaml").read_text().split(f"\n  {parameter}:\n")[1]
    return yaml.safe_load(text.split("Default:")[1].split("\n")[0])


def test_the_defaults_of_the_template_are_what_is_simulated() -> None:
    scaling = read_policy(ROOT).scaling
    assert (scaling.min_tasks, scaling.max_tasks) == (default("MinWorkers"), default("MaxWorkers"))
    assert scaling.max_instances == default("MaxWorkers")
    assert scaling.batch_size == default("WorkerBatchSize")
    assert scaling.instance_type == default("InstanceType")
    assert scaling.is_spot == (default("Spot") == "on")
    assert [policy.target for policy in scaling.tracking] == [default("BacklogPerWorker")]


def test_parameters_reach_into_nested_templates() -> None:
    policy = read_policy(ROOT, {"MaxWorkers": 7, "Spot": "on", "HttpConcurrency": 900, "WorkerBatchSize": 3})
    assert (policy.scaling.max_tasks, policy.scaling.max_instances) == (7, 7)
    assert policy.scaling.is_spot
    assert policy.scaling.batch_size == 3
    assert policy.limits.function_concurrency == 900


def test_a_parameter_that_stands_for_none_is_none() -> None:
    assert read_policy(ROOT, {"HttpConcurrency": 0}).limits.function_concurrency is None


def test_one_step_goes_up_from_none_and_one_back_down() -> None:
    steps = {policy.name: policy for policy in read_policy(ROOT).scaling.steps}
    assert len(steps) == 2
    for policy in steps.values():
        assert len(policy.alarms) == 1
        assert policy.cooldown_seconds > 0
    assert Step(0, math.inf, 1) in steps["WakePolicy"].steps
    assert Step(-math.inf, 0, 0) in steps["SleepPolicy"].steps


def test_the_idle_minutes_are_periods_of_the_alarm() -> None:
    policies = {policy.name: policy for policy in read_policy(ROOT, {"IdleMinutes": 13}).scaling.steps}
    alarm = policies["SleepPolicy"].alarms[0]
    assert (alarm.evaluation_periods, alarm.datapoints, alarm.period_seconds) == (13, 13, 60)


def test_what_no_template_says_is_what_the_code_says() -> None:
    policy, settings = read_policy(ROOT), Settings()
    assert policy.limits.preview_wait_seconds == settings.preview_wait_seconds
    assert policy.limits.job_deadline_seconds == settings.job_deadline.total_seconds()
    assert policy.limits.previews_in_flight == settings.previews_in_flight
    assert policy.scaling.drain_seconds == settings.worker_drain_seconds < policy.scaling.stop_seconds


def test_the_policies_as_they_first_were_differ_from_those_of_now() -> None:
    now = read_policy(ROOT)
    assert forgetful_sleep(now).scaling.steps != now.scaling.steps
    assert forgetful_sleep(now).scaling.tracking != now.scaling.tracking
    assert hasty_follow(now).scaling.tracking != now.scaling.tracking


def test_templates_without_a_service_are_refused(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text("Resources:\n  Topic: {Type: AWS::SNS::Topic}\n")
    with pytest.raises(NotInTemplate, match="ScalableTarget"):
        read_policy(tmp_path)


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ({"Ref": "Count"}, 3),
        ({"Ref": "Queue"}, {"Ref": "Queue"}),
        ({"Fn::If": ["Is", "yes", "no"]}, "yes"),
        ({"Fn::If": ["Isnt", "yes", "no"]}, "no"),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "Size"}, "GB"]}, 24),
        ({"a": {"Ref": "AWS::NoValue"}, "b": [{"Ref": "Count"}, {"Ref": "AWS::NoValue"}]}, {"b": [3]}),
    ],
)
def test_what_is_known_before_a_deployment_is_filled_in(value: object, resolved: object) -> None:
    template = {
        "Parameters": {"Count": {"Default": 1}, "Size": {"Default": "small"}},
        "Conditions": {
            "Is": {"Fn::Equals": [{"Ref": "Count"}, 3]},
            "Isnt": {"Fn::And": [{"Condition": "Is"}, {"Fn::Not": [{"Condition": "Is"}]}]},
        },
        "Mappings": {"Sizes": {"small": {"GB": 24}}},
    }
    assert Resolver(template, {"Count": 3}).resolve(value) == resolved
