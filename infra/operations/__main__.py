"""`python -m infra.operations`: the commands behind `make deploy` and the like."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.operations.clients import Clients
from infra.operations.code import checkout, deploy_code
from infra.operations.environment import IMAGE_TAG, ROOT, Environment, Refused, load_environment
from infra.operations.history import Version, commit_here, note_version, read_history, version_before
from infra.operations.image import promote_image, push_image
from infra.operations.preflight import make_ecs_role, run_checks
from infra.operations.resources import first_failure
from infra.operations.stack import Stack, find_stack, get_stack
from infra.operations.teardown import tear_down, voices_bucket
from infra.operations.worker import deploy_worker
from infra.simulation.cloudformation import load_template

MARKS = {"ok": "ok  ", "look": "LOOK", "stop": "STOP"}


def main(arguments: Sequence[str] | None = None, make_clients: Callable[[str], Any] = Clients) -> int:
    """Run one operation with the clients of a region; return the exit code."""
    given = _parser().parse_args(arguments)
    try:
        environment = load_environment(given.env)
        code: int = given.operation(make_clients(environment.region), environment, given)
    except (Refused, ClientError, BotoCoreError) as error:
        print(f"Not done: {error}", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.operations", description=__doc__)
    parser.add_argument("--env", default="default", help="section of samconfig.toml")
    commands = parser.add_subparsers(required=True)
    for name, operation in OPERATIONS.items():
        command = commands.add_parser(name, help=(operation.__doc__ or "").splitlines()[0])
        command.set_defaults(operation=operation)
        if name in {"deploy", "rollback"}:
            command.add_argument("--sam", type=Path, required=True, help="the SAM CLI")
            command.add_argument("--yes", action="store_true", help="don't ask before the change")
        if name in {"worker", "image", "promote"}:
            command.add_argument("--tag", required=True, help="of the image")
        if name == "image":
            command.add_argument("docker", nargs="*", help="further arguments of `docker build`")
        if name == "promote":
            command.add_argument("--source", required=True, help="the environment that has the image")
        if name == "teardown":
            command.add_argument("--stack", required=True, help="the stack's name once more, to be sure")
    return parser


def deploy(clients: Any, environment: Environment, given: argparse.Namespace) -> int:
    """Build and deploy functions and infrastructure; the workers keep their image."""
    target = _target(clients, environment)
    if target.obstacle:
        raise Refused(target.obstacle)
    if target.parameters["Workers"] == "on":
        make_ecs_role(clients.iam)
    _deploy_and_note(clients, environment, given, commit_here())
    return 0


def _deploy_and_note(
    clients: Any, environment: Environment, given: argparse.Namespace, commit: str, source: Path = ROOT
) -> None:
    def explain() -> str:
        stack = find_stack(clients.cloudformation, environment.stack)
        return first_failure(clients.cloudformation, environment.stack) if stack else ""

    deploy_code(given.sam, environment, explain, source=source, asks=not given.yes)
    stack = get_stack(clients.cloudformation, environment.stack)
    clients.cloudformation.update_termination_protection(EnableTerminationProtection=True, StackName=stack.name)
    _note(clients, stack.name, commit, stack.parameters[IMAGE_TAG])
    print("\n".join(f"{name}: {value}" for name, value in sorted(stack.outputs.items())))


def _note(clients: Any, stack: str, commit: str, tag: str) -> None:
    note_version(clients.ssm, stack, Version(commit, tag, datetime.now(UTC).isoformat(timespec="seconds")))


def image(clients: Any, environment: Environment, given: argparse.Namespace) -> int:
    """Build the worker's image and push it into the stack's repository."""
    push_image(clients.ecr, get_stack(clients.cloudformation, environment.stack), given.tag, given.docker)
    return 0


def promote(clients: Any, environment: Environment, given: argparse.Namespace) -> int:
    """Copy the worker's image from another environment's repository."""
    source = get_stack(clients.cloudformation, load_environment(given.source).stack)
    promote_image(clients.ecr, source, get_stack(clients.cloudformation, environment.stack), given.tag)
    return 0


def worker(clients: Any, environment: Environment, given: argparse.Namespace) -> int:
    """Deploy another image of the worker."""
    _change_image(clients, environment.stack, given.tag)
    return 0


def _change_image(clients: Any, name: str, tag: str) -> None:
    deploy_worker(clients, get_stack(clients.cloudformation, name), tag)
    versions = read_history(clients.ssm, name)
    _note(clients, name, versions[-1].commit if versions else "unknown", tag)


def rollback(clients: Any, environment: Environment, given: argparse.Namespace) -> int:
    """Roll back to the previous version of the workers' image, the code, or both."""
    versions = read_history(clients.ssm, environment.stack)
    if not versions:
        raise Refused(
            f"It is not known what was deployed before; nothing has been, by `make deploy ENV={environment.name}`."
        )
    before, now = version_before(versions), versions[-1]
    print(f"From {_told(now)} to {_told(before)}")
    if before.commit != now.commit:
        with checkout(before.commit) as source:
            _deploy_and_note(clients, environment, given, before.commit, source)
    if before.image_tag != now.image_tag:
        _change_image(clients, environment.stack, before.image_tag)
    return 0


def _told(version: Version) -> str:
    return f"{version.commit} with image {version.image_tag or '(none)'}"


def teardown(clients: Any, environment: Environment, given: argparse.Namespace) -> int:
    """Delete the stack; voices and keys are retained."""
    if given.stack != environment.stack:
        raise Refused(f"To delete the stack of {environment.name}, say its name: STACK={environment.stack}.")
    stack = find_stack(clients.cloudformation, environment.stack)
    if stack is None:
        print(f"There is no stack {environment.stack} in {environment.region}. Nothing to delete.")
        return 0
    voices = voices_bucket(clients, stack)
    tear_down(clients, stack)
    kept = (
        f" Voices and keys stay in {voices}; KeptVoicesBucket={voices} gives them to a new stack." if voices else ""
    )
    print(f"Deleted.{kept}")
    return 0


def preflight(clients: Any, environment: Environment, _given: argparse.Namespace) -> int:
    """Check whether the account can take a deployment, without changing anything."""
    found = run_checks(clients, _target(clients, environment))
    for finding in found:
        print(f"{MARKS[finding.verdict]} {finding.what}" + (f"\n     {finding.advice}" if finding.advice else ""))
    return int(any(finding.verdict == "stop" for finding in found))


def _target(clients: Any, environment: Environment) -> Stack:
    """Return the stack with the parameters of its next deployment: configured, else its own, else the defaults."""
    parameters = {
        name: str(one["Default"]) for name, one in load_template(ROOT / "template.yaml")["Parameters"].items()
    }
    stack = find_stack(clients.cloudformation, environment.stack) or Stack(environment.stack, "", {}, {})
    return replace(stack, parameters=parameters | dict(stack.parameters) | dict(environment.parameters))


OPERATIONS = {
    "preflight": preflight,
    "deploy": deploy,
    "image": image,
    "promote": promote,
    "worker": worker,
    "rollback": rollback,
    "teardown": teardown,
}

if __name__ == "__main__":
    sys.exit(main())
