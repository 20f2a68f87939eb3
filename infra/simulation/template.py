"""Reads the scaling policy and the limits out of the templates, by the types of the resources."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from infra.simulation.cloudformation import Resource, read_resources
from infra.simulation.policy import Alarm, Limits, Metric, Policy, Scaling, Step, StepScaling, TargetTracking
from pipeline.settings import Settings

IN_USE = {"ImageTag": "v1", "AlarmEmail": "somebody@example.com"}
FREE_THROUGHPUT = 125  # of a gp3 volume, in MB/s
WHOLE = "m"  # id of an alarm's only metric in its expression


class NotInTemplate(LookupError):
    """The templates lack a resource or property of the simulation. The message names it."""


def read_policy(root: Path, parameters: Mapping[str, Any] | None = None) -> Policy:
    """Read `template.yaml` and its nested templates, with these parameters and the defaults of the others.

    The workers' image and a recipient of alarm notifications are assumed to be set.

    Raises
    ------
    NotInTemplate
        It contains no scalable service.
    """
    resources = Resources(read_resources(root, IN_USE | dict(parameters or {})))
    return Policy(
        scaling=_scaling(resources),
        limits=_limits(resources),
        alarmed_metrics=_alarmed_metrics(resources),
        preview_metrics=_preview_metrics(resources),
    )


class Resources:
    """All resources, looked up by type."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._resources = list(resources)

    def of(self, kind: str) -> list[Resource]:
        """Return all resources of a type."""
        return [resource for resource in self._resources if resource.kind == kind]

    def one(self, kind: str) -> Resource:
        """Return the first resource of a type."""
        found = self.of(kind)
        if not found:
            raise NotInTemplate(f"The templates should have an {kind}.")
        return found[0]


# scaling


def _scaling(resources: Resources) -> Scaling:
    target = resources.one("AWS::ApplicationAutoScaling::ScalableTarget").properties
    group = resources.one("AWS::AutoScaling::AutoScalingGroup").properties
    managed = resources.one("AWS::ECS::CapacityProvider").properties["AutoScalingGroupProvider"]["ManagedScaling"]
    policies = resources.of("AWS::ApplicationAutoScaling::ScalingPolicy")
    container = _worker_container(resources)
    settings = _settings(_environment(container))
    return Scaling(
        min_tasks=int(target["MinCapacity"]),
        max_tasks=int(target["MaxCapacity"]),
        steps=tuple(
            _step_scaling(one, resources) for one in policies if one.properties["PolicyType"] == "StepScaling"
        ),
        tracking=tuple(
            _tracking(one) for one in policies if one.properties["PolicyType"] == "TargetTrackingScaling"
        ),
        max_instances=int(group["MaxSize"]),
        target_capacity=int(managed.get("TargetCapacity", 100)),
        largest_launch=int(managed.get("MaximumScalingStepSize", 10_000)),
        instance_type=_instance_type(resources, group),
        is_spot=_is_spot(resources, group),
        batch_size=settings.worker_batch_size,
        drain_seconds=settings.worker_drain_seconds,
        stop_seconds=int(container.get("StopTimeout", 30)),
        disk_gigabytes=_disk(resources, "VolumeSize", 30),
        disk_megabytes_per_second=_disk(resources, "Throughput", FREE_THROUGHPUT),
    )


def _worker_container(resources: Resources) -> dict[str, Any]:
    containers = resources.one("AWS::ECS::TaskDefinition").properties["ContainerDefinitions"]
    found: dict[str, Any] = containers[0]
    return found


def _environment(container: Mapping[str, Any]) -> dict[str, Any]:
    return {one["Name"].lower(): one["Value"] for one in container.get("Environment", [])}


def _settings(environment: Mapping[str, Any]) -> Settings:
    """Return the settings of an environment; empty values, and those that refer to resources, are left out."""
    plain = {name: str(value) for name, value in environment.items() if value != "" and not isinstance(value, dict)}
    return Settings(**{name: value for name, value in plain.items() if name in Settings.model_fields})  # type: ignore[arg-type]


def _step_scaling(policy: Resource, resources: Resources) -> StepScaling:
    configuration = policy.properties["StepScalingPolicyConfiguration"]
    return StepScaling(
        name=policy.name,
        adjustment=configuration["AdjustmentType"],
        cooldown_seconds=int(configuration.get("Cooldown", 0)),
        steps=tuple(_step(one) for one in configuration["StepAdjustments"]),
        alarms=tuple(_alarms_of(policy, resources)),
    )


def _step(step: Mapping[str, Any]) -> Step:
    return Step(
        lower=float(step.get("MetricIntervalLowerBound", -math.inf)),
        upper=float(step.get("MetricIntervalUpperBound", math.inf)),
        adjustment=float(step["ScalingAdjustment"]),
    )


def _alarms_of(policy: Resource, resources: Resources) -> Iterable[Alarm]:
    for alarm in resources.of("AWS::CloudWatch::Alarm"):
        actions = [*alarm.properties.get("AlarmActions", []), *alarm.properties.get("OKActions", [])]
        if alarm.template == policy.template and any(_refers_to(action, policy.name) for action in actions):
            yield _alarm(alarm)


def _refers_to(value: Any, name: str) -> bool:
    return value == {"Ref": name} or f'"{name}.' in json.dumps(value) or value == {"Fn::GetAtt": [name, "Arn"]}


def _alarm(alarm: Resource) -> Alarm:
    properties = alarm.properties
    queries = properties.get("Metrics")
    evaluation_periods = int(properties["EvaluationPeriods"])
    return Alarm(
        name=alarm.name,
        metric=_metric(queries) if queries else Metric(WHOLE, {WHOLE: properties["MetricName"]}),
        # Inputs of an expression are aggregated before; a minute has one sample here.
        statistic="Maximum" if queries else properties["Statistic"],
        period_seconds=_period(queries) if queries else int(properties["Period"]),
        evaluation_periods=evaluation_periods,
        datapoints=int(properties.get("DatapointsToAlarm", evaluation_periods)),
        threshold=float(properties["Threshold"]),
        comparison=properties["ComparisonOperator"],
        missing_is_breaching=properties.get("TreatMissingData") == "breaching",
    )


def _period(queries: Iterable[Mapping[str, Any]]) -> int:
    return max(int(one["MetricStat"]["Period"]) for one in queries if "MetricStat" in one)


def _metric(queries: Iterable[Mapping[str, Any]]) -> Metric:
    """Combine expressions that refer to others into one."""
    queries = list(queries)
    inputs = {one["Id"]: _input(one["MetricStat"]) for one in queries if "MetricStat" in one}
    expressions = {one["Id"]: one["Expression"] for one in queries if "Expression" in one}
    told = next(one["Id"] for one in queries if one.get("ReturnData", True) is not False)
    return Metric(_unfolded(told, expressions), inputs)


def _input(statistic: Mapping[str, Any]) -> str:
    """Return the name of a metric; its sample count is a separate metric."""
    name = str(statistic["Metric"]["MetricName"])
    return f"{name}:SampleCount" if statistic["Stat"] == "SampleCount" else name


def _unfolded(told: str, expressions: Mapping[str, str]) -> str:
    """Return the expression with those that it refers to substituted in it."""
    return re.sub(
        r"\b[a-z]\w*\b",
        lambda found: f"({_unfolded(found[0], expressions)})" if found[0] in expressions else found[0],
        expressions.get(told, told),
    )


def _tracking(policy: Resource) -> TargetTracking:
    configuration = policy.properties["TargetTrackingScalingPolicyConfiguration"]
    specification = configuration["CustomizedMetricSpecification"]
    metrics = specification.get("Metrics")
    return TargetTracking(
        name=policy.name,
        metric=_metric(metrics) if metrics else Metric(WHOLE, {WHOLE: specification["MetricName"]}),
        target=float(configuration["TargetValue"]),
        scale_out_cooldown_seconds=int(configuration.get("ScaleOutCooldown", 300)),
        scale_in_cooldown_seconds=int(configuration.get("ScaleInCooldown", 300)),
        only_out=str(configuration.get("DisableScaleIn", False)).lower() == "true",
    )


def _instance_type(resources: Resources, group: Mapping[str, Any]) -> str:
    overrides = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {}).get("Overrides", [])
    template = resources.one("AWS::EC2::LaunchTemplate").properties["LaunchTemplateData"]
    return str(overrides[0]["InstanceType"] if overrides else template["InstanceType"])


def _disk(resources: Resources, name: str, default: int) -> int:
    template = resources.one("AWS::EC2::LaunchTemplate").properties["LaunchTemplateData"]
    disks = template.get("BlockDeviceMappings", [])
    return int(disks[0]["Ebs"].get(name, default)) if disks else default


def _is_spot(resources: Resources, group: Mapping[str, Any]) -> bool:
    distribution = group.get("MixedInstancesPolicy", {}).get("InstancesDistribution")
    if distribution:
        return int(distribution.get("OnDemandPercentageAboveBaseCapacity", 100)) < 100
    template = resources.one("AWS::EC2::LaunchTemplate").properties["LaunchTemplateData"]
    return bool(template.get("InstanceMarketOptions", {}).get("MarketType") == "spot")


def _alarmed_metrics(resources: Resources) -> int:
    """Count the metrics billed for alarms: each metric of an alarm, and twice those of target tracking policies."""
    watched = [
        len([query for query in alarm.properties.get("Metrics", []) if "MetricStat" in query]) or 1
        for alarm in resources.of("AWS::CloudWatch::Alarm")
    ]
    tracked = [
        2 * len(_tracking(policy).metric.inputs)
        for policy in resources.of("AWS::ApplicationAutoScaling::ScalingPolicy")
        if policy.properties["PolicyType"] == "TargetTrackingScaling"
    ]
    return sum(watched + tracked)


def _preview_metrics(resources: Resources) -> int:
    """Count the metrics out of the lines that workers log at the end of previews."""
    filters = [one.properties for one in resources.of("AWS::Logs::MetricFilter")]
    ended = [
        one["MetricTransformations"][0]["MetricName"] for one in filters if "job ended" in one["FilterPattern"]
    ]
    return len(set(ended))


# limits


def _limits(resources: Resources) -> Limits:
    function = _http_function(resources)
    settings = _settings({name.lower(): value for name, value in _variables(function).items()})
    reserved = function.get("ReservedConcurrentExecutions")
    return Limits(
        previews_in_flight=settings.previews_in_flight or None,
        preview_wait_seconds=settings.preview_wait_seconds,
        job_deadline_seconds=settings.job_deadline.total_seconds(),
        function_concurrency=None if reserved is None else int(reserved),
        function_megabytes=int(function.get("MemorySize", 128)),
        function_is_arm="arm64" in function.get("Architectures", []),
        requests_per_second=_throttle(resources),
    )


def _http_function(resources: Resources) -> dict[str, Any]:
    for function in resources.of("AWS::Serverless::Function"):
        if "http" in str(function.properties.get("Handler", "")).split("."):
            return function.properties
    raise NotInTemplate("The templates should have a function whose handler is in a module called http.")


def _variables(function: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = function.get("Environment", {}).get("Variables", {})
    return found


def _throttle(resources: Resources) -> float | None:
    for simulator in resources.of("AWS::ApiGatewayV2::Simulator"):
        if "http" in simulator.template.lower():
            limit = simulator.properties.get("DefaultRouteSettings", {}).get("ThrottlingRateLimit")
            return None if limit is None else float(limit)
    return None
