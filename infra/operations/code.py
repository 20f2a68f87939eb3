"""Builds and deploys functions and infrastructure with the SAM CLI; checks out earlier commits for rollbacks."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra.operations.environment import ROOT, Environment, Refused
from infra.package.archives import share_archives
from infra.package.python import VERSION, find_python

BUILT = Path(".aws-sam") / "build" / "template.yaml"


def deploy_code(
    sam: Path, environment: Environment, explain: Callable[[], str], *, source: Path = ROOT, asks: bool = True
) -> None:
    """Build and deploy a checkout; parameters that are not configured keep their values.

    Raises
    ------
    Refused
        There is no Python to build the package with, or the SAM CLI failed and printed why.  `explain` returns the
        reason of a failed deployment, because the SAM CLI does not print failures of nested stacks.
    """
    python = find_python()
    if python is None:
        raise Refused(
            f"The functions' package has to be built by Python {VERSION}, which is not found here. Install it, or "
            f"set FUNCTIONS_PYTHON=/path/to/python{VERSION}."
        )
    variables = {
        "PYTHON": python,
        "AWS_DEFAULT_REGION": environment.region,
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_ENABLE_LANGUAGE_EXTENSIONS": "1",
    }
    build, deploy = _commands(sam, environment, asks=asks)
    _run(build, source, variables)
    share_archives((source / BUILT).parent)
    try:
        _run(deploy, source, variables)
    except Refused as error:
        raise Refused(f"{error} {explain()}") from error


def _commands(sam: Path, environment: Environment, *, asks: bool) -> tuple[list[str], list[str]]:
    """Return both commands: a deployment without a build would ship the sources instead of the package."""
    of = ["--config-file", str(ROOT / "samconfig.toml"), "--config-env", environment.name]
    confirm = "--confirm-changeset" if asks else "--no-confirm-changeset"
    role = ["--role-arn", environment.role] if environment.role else []
    deploy = [
        str(sam),
        "deploy",
        "--template-file",
        str(BUILT),
        "--region",
        environment.region,
        confirm,
        *role,
        *of,
    ]
    return [str(sam), "build", *of], deploy


def _run(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=folder, env=surroundings | dict(variables), check=False)
    if done.returncode:
        raise Refused(f"`{' '.join(command)}` ended with {done.returncode}; see above for why.")


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """Check out a commit into a separate folder for the duration of the context.

    Raises
    ------
    Refused
        It is not in this repository, or was deployed with uncommitted changes.
    """
    if commit.endswith("-dirty"):
        raise Refused(
            f"What was deployed before was not committed ({commit}); check out what you want, then `make deploy`."
        )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "checkout"
        try:
            subprocess.run(["git", "worktree", "add", "--detach", place, commit], cwd=ROOT, check=True)
        except subprocess.CalledProcessError as error:
            raise Refused(f"The commit {commit} is not in this repository; fetch it first.") from error
        try:
            yield place
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", place], cwd=ROOT, check=False)
