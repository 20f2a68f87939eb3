"""Checks whether an account can take a deployment, without changing anything. Reports the missing steps."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from botocore.exceptions import ClientError

from infra.operations.resources import list_resources
from infra.operations.stack import Stack
from infra.package.python import VERSION, find_python

Verdict = Literal["ok", "look", "stop"]

# Running On-Demand, and all Spot, G and VT instances, in vCPUs; concurrent executions.
ON_DEMAND_QUOTA, SPOT_QUOTA, FUNCTIONS_QUOTA = "L-DB2E81BA", "L-3819A6DF", "L-B99A9384"
SMALLEST_VCPUS = 4
ZONES = 3
UNRESERVED = 100  # concurrent executions that Lambda always leaves unreserved
ECS = "ecs.amazonaws.com"
LINKED_ROLES = {
    ECS: "AWSServiceRoleForECS",
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


Check = Callable[[Any, Stack], Iterator[Finding]]


def run_checks(clients: Any, stack: Stack) -> list[Finding]:
    """Return the results of all checks of a stack with the parameters of its next deployment.

    A check that lacks permission is reported as such, and the others still run.
    """
    has_workers = stack.parameters["Workers"] == "on"
    checks = [*CHECKS, *(WORKER_CHECKS if has_workers else ())]
    return [finding for check in checks for finding in _made(check, clients, stack)]


def make_ecs_role(iam: Any) -> None:
    """Create the role with which ECS manages instances, if the account has none.

    AWS creates it at the first use of ECS, which is too late for a capacity provider in the same stack.
    """
    try:
        iam.get_role(RoleName=LINKED_ROLES[ECS])
    except iam.exceptions.NoSuchEntityException:
        iam.create_service_linked_role(AWSServiceName=ECS)


def _made(check: Check, clients: Any, stack: Stack) -> list[Finding]:
    try:
        return list(check(clients, stack))
    except ClientError as error:
        name = check.__name__.strip("_").replace("_", " ")
        return [
            Finding(
                "look", f"{name}: not looked at ({error.response['Error']['Code']})", "Have somebody look who may."
            )
        ]


def _stack_status(_clients: Any, stack: Stack) -> Iterator[Finding]:
    if stack.obstacle:
        yield Finding("stop", f"Stack {stack.name}: {stack.status}", stack.obstacle)
    else:
        yield Finding("ok", f"Stack {stack.name}: {stack.status or 'not there yet'}")


def _gpu_quota(clients: Any, stack: Stack) -> Iterator[Finding]:
    parameters = stack.parameters
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


def _function_concurrency(clients: Any, stack: Stack) -> Iterator[Finding]:
    limit = clients.functions.get_account_settings()["AccountLimit"]
    count, reserved = limit["ConcurrentExecutions"], int(stack.parameters["HttpConcurrency"])
    what = f"Functions at a time: {count}"
    # A deployment replaces what the stack has reserved so far.
    free = limit["UnreservedConcurrentExecutions"] + _reserved_by(clients.functions, stack) - UNRESERVED
    if reserved and reserved > free:
        yield Finding(
            "stop", what, f"HttpConcurrency={reserved} can't be reserved; {UNRESERVED} have to stay. Lower it."
        )
    elif count < UNRESERVED:
        yield Finding("look", what, f"Each waiting preview holds one: {_ask('lambda', FUNCTIONS_QUOTA, 1000)}")
    else:
        yield Finding("ok", what)


def _reserved_by(functions: Any, stack: Stack) -> int:
    try:
        found = functions.get_function_concurrency(FunctionName=f"{stack.name}-Http")
    except functions.exceptions.ResourceNotFoundException:
        return 0
    return int(found.get("ReservedConcurrentExecutions", 0))


def _instance_types(clients: Any, stack: Stack) -> Iterator[Finding]:
    parameters = stack.parameters
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


def _linked_roles(clients: Any, stack: Stack) -> Iterator[Finding]:
    roles = LINKED_ROLES | (SPOT_ROLE if stack.parameters.get("Spot") == "on" else {})
    for service, role in roles.items():
        try:
            clients.iam.get_role(RoleName=role)
        except clients.iam.exceptions.NoSuchEntityException:
            make = f"aws iam create-service-linked-role --aws-service-name {service}"
            maker = "`make deploy`" if service == ECS else "AWS"
            advice = f"{maker} makes it, if your permissions allow it. Otherwise an administrator runs: {make}"
            yield Finding("look", f"{role}: not there yet", advice)
        else:
            yield Finding("ok", role)


def _websocket_logs(clients: Any, stack: Stack) -> Iterator[Finding]:
    role, wanted = clients.gateway.get_account().get("cloudwatchRoleArn"), stack.parameters["WebSocketAccessLogs"]
    what = f"API Gateway's role for logs in this region: {role or 'none'}"
    if wanted == "on" and not role:
        yield Finding("stop", what, "Set WebSocketAccessLogs=make-role, or off.")
    elif wanted == "make-role" and role and not _is_own_role(clients, stack, role):
        yield Finding(
            "stop", what, "WebSocketAccessLogs=make-role would replace it for all its APIs; set on instead."
        )
    else:
        yield Finding("ok", what)


def _is_own_role(clients: Any, stack: Stack, role: str) -> bool:
    if not stack.status:
        return False
    resources = list_resources(clients.cloudformation, stack.name)
    return any(one.kind == "AWS::IAM::Role" and role.endswith(f"/{one.id}") for one in resources)


def _python(_clients: Any, _stack: Stack) -> Iterator[Finding]:
    python = find_python()
    yield (
        Finding("ok", f"Python {VERSION}: {python}")
        if python
        else Finding(
            "stop", f"Python {VERSION}: none", f"Install it, or set FUNCTIONS_PYTHON=/path/to/python{VERSION}."
        )
    )


def _docker(_clients: Any, _stack: Stack) -> Iterator[Finding]:
    docker = shutil.which("docker")
    yield (
        Finding("ok", f"Docker: {docker}")
        if docker
        else Finding("look", "Docker: none", "`make worker-image` needs it.")
    )


CHECKS: tuple[Check, ...] = (_stack_status, _python, _function_concurrency, _websocket_logs)
WORKER_CHECKS: tuple[Check, ...] = (_docker, _gpu_quota, _instance_types, _linked_roles)
