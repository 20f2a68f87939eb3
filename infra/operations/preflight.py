"""Checks whether an account can take a deployment, without changing anything. Reports the missing steps."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from botocore.exceptions import ClientError

from infra.package.python import VERSION, find_python

Verdict = Literal["ok", "look", "stop"]

# Running On-Demand, and all Spot, G and VT instances, in vCPUs; concurrent executions.
ON_DEMAND_QUOTA, SPOT_QUOTA, FUNCTIONS_QUOTA = "L-DB2E81BA", "L-3819A6DF", "L-B99A9384"
SMALLEST_VCPUS = 4
ZONES = 3
UNRESERVED = 100  # concurrent executions that Lambda always leaves unreserved
LINKED_ROLES = {
    "ecs.amazonaws.com": "AWSServiceRoleForECS",
    "autoscaling.amazonaws.com": "AWSServiceRoleForAutoScaling",
    "ecs.application-autoscaling.amazonaws.com": "AWSServiceRoleForApplicationAutoScaling_ECSService",
}
SPOT_ROLE = {"spot.amazonaws.com": "AWSServiceRoleForEC2Spot"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    verdict: Verdict
    what: str
    advice: str = ""


Check = Callable[[Any, Mapping[str, str]], Iterator[Finding]]


def run_checks(clients: Any, parameters: Mapping[str, str]) -> list[Finding]:
    """Return the results of all checks; one that lacks permission is reported as such, and the others still run."""
    return [finding for check in CHECKS for finding in _made(check, clients, parameters)]


def _made(check: Check, clients: Any, parameters: Mapping[str, str]) -> list[Finding]:
    try:
        return list(check(clients, parameters))
    except ClientError as error:
        name = check.__name__.strip("_").replace("_", " ")
        return [
            Finding(
                "look", f"{name}: not looked at ({error.response['Error']['Code']})", "Have somebody look who may."
            )
        ]


def _gpu_quota(clients: Any, parameters: Mapping[str, str]) -> Iterator[Finding]:
    is_spot = parameters.get("Spot") == "on"
    code = SPOT_QUOTA if is_spot else ON_DEMAND_QUOTA
    quota = clients.quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]
    wanted = SMALLEST_VCPUS * int(parameters["MaxWorkers"])
    what = (
        f"{quota['QuotaName']}: {quota['Value']:.0f} vCPUs, of {wanted} for MaxWorkers={parameters['MaxWorkers']}"
    )
    if quota["Value"] >= wanted:
        yield Finding("ok", what)
        return
    verdict: Verdict = "stop" if quota["Value"] < SMALLEST_VCPUS else "look"
    yield Finding(verdict, what, f"Ask for more, which can take days: {_ask('ec2', code, wanted)}")


def _ask(service: str, code: str, value: int) -> str:
    return (
        f"aws service-quotas request-service-quota-increase --service-code {service} --quota-code {code} "
        f"--desired-value {value}"
    )


def _function_concurrency(clients: Any, parameters: Mapping[str, str]) -> Iterator[Finding]:
    limit = clients.functions.get_account_settings()["AccountLimit"]
    count, reserved = limit["ConcurrentExecutions"], int(parameters["HttpConcurrency"])
    what = f"Functions at a time: {count}"
    if reserved and reserved > limit["UnreservedConcurrentExecutions"] - UNRESERVED:
        yield Finding(
            "stop", what, f"HttpConcurrency={reserved} can't be reserved; {UNRESERVED} have to stay. Lower it."
        )
    elif count < UNRESERVED:
        yield Finding("look", what, f"Each waiting preview holds one: {_ask('lambda', FUNCTIONS_QUOTA, 1000)}")
    else:
        yield Finding("ok", what)


def _instance_types(clients: Any, parameters: Mapping[str, str]) -> Iterator[Finding]:
    names = [f"{which}InstanceType" for which in ("", "Second", "Third", "Fourth")]
    types = [parameters[name] for name in names if parameters.get(name)]
    filters = [{"Name": "instance-type", "Values": types}]
    pages = clients.ec2.get_paginator("describe_instance_type_offerings").paginate(
        LocationType="availability-zone", Filters=filters
    )
    offered = {(one["InstanceType"], one["Location"]) for page in pages for one in page["InstanceTypeOfferings"]}
    for type_ in types:
        if not any(type_ == name for name, _ in offered):
            yield Finding(
                "stop", f"{type_}: not in this region", "Name another instance type, or empty that parameter."
            )
    fitting = sorted({zone for type_, zone in offered if type_ == types[0]})
    yield from _zones(clients.ec2, parameters, types[0], fitting)


def _zones(ec2: Any, parameters: Mapping[str, str], type_: str, fitting: list[str]) -> Iterator[Finding]:
    if parameters.get("VpcId"):
        yield Finding("ok", f"{type_}: in {', '.join(fitting) or 'no zone'}", "SubnetIds should lie in these.")
        return
    known = ec2.describe_availability_zones(Filters=[{"Name": "zone-type", "Values": ["availability-zone"]}])
    there = sorted(one["ZoneName"] for one in known["AvailabilityZones"])
    if len(there) < ZONES:
        yield Finding(
            "stop",
            f"Zones: {len(there)}",
            f"The network wants {ZONES}: take another region, or VpcId and SubnetIds.",
        )
        return
    used = [zone for zone in parameters.get("Zones", "").split(",") if zone] or there[:ZONES]
    within = [zone for zone in used if zone in fitting]
    what = f"{type_}: in {len(within)} of the network's zones {', '.join(used)}"
    if len(within) == ZONES:
        yield Finding("ok", what)
        return
    others = [zone for zone in there if zone not in fitting]
    better = ",".join([*fitting, *others][:ZONES])
    yield Finding("look" if within else "stop", what, f"Before the first deployment, set Zones={better}")


def _linked_roles(clients: Any, parameters: Mapping[str, str]) -> Iterator[Finding]:
    roles = LINKED_ROLES | (SPOT_ROLE if parameters.get("Spot") == "on" else {})
    for service, role in roles.items():
        try:
            clients.iam.get_role(RoleName=role)
        except clients.iam.exceptions.NoSuchEntityException:
            make = f"aws iam create-service-linked-role --aws-service-name {service}"
            yield Finding(
                "look", f"{role}: not there yet", f"AWS makes it at its first use, if you may; else: {make}"
            )
        else:
            yield Finding("ok", role)


def _websocket_logs(clients: Any, parameters: Mapping[str, str]) -> Iterator[Finding]:
    role, wanted = clients.gateway.get_account().get("cloudwatchRoleArn"), parameters["WebSocketAccessLogs"]
    what = f"API Gateway's role for logs in this region: {role or 'none'}"
    if wanted == "on" and not role:
        yield Finding("stop", what, "Set WebSocketAccessLogs=make-role, or off.")
    elif wanted == "make-role" and role:
        yield Finding(
            "stop", what, "WebSocketAccessLogs=make-role would replace it for all its APIs; set on instead."
        )
    else:
        yield Finding("ok", what)


def _tools(_clients: Any, _parameters: Mapping[str, str]) -> Iterator[Finding]:
    python = find_python()
    yield (
        Finding("ok", f"Python {VERSION}: {python}")
        if python
        else Finding(
            "stop", f"Python {VERSION}: none", f"Install it, or set FUNCTIONS_PYTHON=/path/to/python{VERSION}."
        )
    )
    docker = shutil.which("docker")
    yield (
        Finding("ok", f"Docker: {docker}")
        if docker
        else Finding("look", "Docker: none", "`make worker-image` needs it.")
    )


CHECKS: tuple[Check, ...] = (
    _tools,
    _gpu_quota,
    _function_concurrency,
    _instance_types,
    _linked_roles,
    _websocket_logs,
)
