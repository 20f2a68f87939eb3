"""The GPU workers of the templates: containers, instances and scaling."""

import json
import re
from typing import Any

from pipeline.settings import Settings
from tests.infra.cloudformation import (
    ROOT,
    properties,
    resources,
    template,
)

DEFAULTS = Settings()


def worker() -> dict[str, Any]:
    (container,) = properties("worker", "Task")["ContainerDefinitions"]
    assert isinstance(container, dict)
    return container


def test_worker_variables_are_settings() -> None:
    given = {one["Name"] for one in worker()["Environment"]}
    assert given <= {field.upper() for field in Settings.model_fields}
    assert given >= {"BUCKET", "VOICES_BUCKET", "SYNTHESIS_QUEUE", "AWS_REGION"}


def test_worker_stop_timeout() -> None:
    assert DEFAULTS.worker_drain_seconds + 10 <= worker()["StopTimeout"] <= 120
    data = properties("fleet", "Template")["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Fn::Sub"]
    assert "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true" in data
    assert f"ECS_CONTAINER_STOP_TIMEOUT={worker()['StopTimeout']}s" in data


def test_worker_health_check_matches_image() -> None:
    image = (ROOT / "Dockerfile.gpu").read_text()
    of_the_worker = image.split(" AS worker\n")[1]
    (command,) = re.findall(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])$", of_the_worker, re.MULTILINE)
    assert worker()["HealthCheck"]["Command"] == ["CMD", *json.loads(command)]
    assert worker()["User"] == re.findall(r"^USER (\S+)$", image, re.MULTILINE)[-1]


def test_worker_gpu_and_placement() -> None:
    assert worker()["ResourceRequirements"] == [{"Type": "GPU", "Value": "1"}]
    assert worker()["LinuxParameters"]["InitProcessEnabled"] is True
    assert properties("worker", "Service")["PlacementConstraints"] == [{"Type": "distinctInstance"}]


def test_instances_protected_from_scale_in() -> None:
    provider = properties("fleet", "Capacity")["AutoScalingGroupProvider"]
    assert provider["ManagedTerminationProtection"] == "ENABLED"
    assert provider["ManagedScaling"]["Status"] == "ENABLED"
    assert provider["ManagedDraining"] == "ENABLED"
    # Managed termination protection requires it.
    assert properties("fleet", "Instances")["NewInstancesProtectedFromScaleIn"] is True
    assert properties("fleet", "Instances")["MinSize"] == "0"


def test_instance_metadata_hop_limit() -> None:
    options = properties("fleet", "Template")["LaunchTemplateData"]["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)
    assert "SecurityGroupIngress" not in properties("fleet", "Closed")


def test_scaling_from_and_to_zero() -> None:
    wake, sleep = properties("scaling", "Wake"), properties("scaling", "Sleep")
    assert (wake["Threshold"], wake["EvaluationPeriods"]) == (0, 1)
    assert wake["AlarmActions"] == [{"Ref": "WakePolicy"}]
    assert (sleep["Threshold"], sleep["EvaluationPeriods"]) == (0, {"Ref": "IdleMinutes"})
    assert sleep["AlarmActions"] == [{"Ref": "SleepPolicy"}]
    policy = properties("scaling", "SleepPolicy")["StepScalingPolicyConfiguration"]
    assert policy["StepAdjustments"][0]["ScalingAdjustment"] == {"Ref": "MinWorkers"}
    assert template("root")["Parameters"]["MinWorkers"]["Default"] == 0


def test_service_has_no_desired_count() -> None:
    """ECS accepts zone rebalancing, its default for new services, only with a MaximumPercent above 100.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-rebalancing.html
    """
    service = properties("worker", "Service")
    assert "DesiredCount" not in service
    assert service["AvailabilityZoneRebalancing"] == "DISABLED"
    assert service["DeploymentConfiguration"]["MaximumPercent"] == 100
    assert service["DeploymentConfiguration"]["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert resources("root")["Worker"]["Properties"]["TimeoutInMinutes"] <= 60


def test_worker_reserves_cpu_and_uses_cuda() -> None:
    """ECS measures a service's CPUUtilization by the CPU units that its task definition reserves.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service_utilization.html
    """
    vcpus_of_the_smallest = 4
    assert 0 < worker()["Cpu"] < 1024 * vcpus_of_the_smallest
    assert {"Name": "DEVICE", "Value": "cuda"} in worker()["Environment"]


def test_fleet_zones_and_instance_types() -> None:
    assert len(resources("network", "AWS::EC2::Subnet")) == 3
    group = properties("fleet", "Instances")
    overrides = group["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"]
    assert len(overrides) == 4
    metrics = group["MetricsCollection"][0]["Metrics"]
    watched = properties("worker-alarms", "IdleInstances")["Metrics"]
    used = {one["MetricStat"]["Metric"]["MetricName"] for one in watched if one["Id"] == "instances"}
    assert used <= set(metrics)
