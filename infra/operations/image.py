"""Builds the worker's image and pushes it into the stack's repository."""

import base64
import subprocess
from collections.abc import Sequence
from typing import Any

from infra.operations.environment import ROOT, Refused
from infra.operations.stack import Stack


def push_image(ecr: Any, stack: Stack, tag: str, arguments: Sequence[str] = ()) -> None:
    """Build `Dockerfile.gpu` for the cloud's platform, and push it.

    Raises
    ------
    Refused
        The repository has an image with this tag, which is never replaced, or Docker failed.
    """
    repository = stack.outputs.get("Repository")
    if repository is None:
        raise Refused(f"The stack {stack.name} has no repository, as it has no workers of its own (Workers=off).")
    _check_tag_is_new(ecr, repository.split("/", 1)[1], tag)
    name = f"{repository}:{tag}"
    build = ["docker", "build", "--platform", "linux/amd64", "-f", "Dockerfile.gpu", "--build-arg", "WEIGHTS=baked"]
    _run([*build, *arguments, "-t", name, "."])
    user, password = _credentials(ecr)
    _run(["docker", "login", "--username", user, "--password-stdin", repository.split("/")[0]], said=password)
    _run(["docker", "push", name])


def _check_tag_is_new(ecr: Any, repository: str, tag: str) -> None:
    try:
        ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except ecr.exceptions.ImageNotFoundException:
        return
    raise Refused(
        f"The repository {repository} has an image {tag} already, and a tag is one image for ever; take another."
    )


def _credentials(ecr: Any) -> tuple[str, str]:
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    return user, password


def _run(command: Sequence[str], said: str | None = None) -> None:
    done = subprocess.run(command, cwd=ROOT, input=said, text=True, check=False)
    if done.returncode:
        raise Refused(f"`{' '.join(command)}` ended with {done.returncode}; see above for why.")
