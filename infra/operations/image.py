"""Builds the worker's image, and pushes it into the stack's repository or copies it from another stack's."""

import base64
import os
import subprocess
from collections.abc import Sequence
from typing import Any

from infra.operations.environment import ROOT, Refused
from infra.operations.stack import Stack

# Attestations are images without a tag: ECR would count them among the five that it keeps.
VARIABLES = {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}


def push_image(ecr: Any, stack: Stack, tag: str, arguments: Sequence[str] = ()) -> None:
    """Build `Dockerfile.gpu` for the cloud's platform, and push it.

    Raises
    ------
    Refused
        The repository has an image with this tag, which is never replaced, or Docker failed.
    """
    repository = _repository(stack)
    _check_tag_is_new(ecr, repository, tag)
    build = ["docker", "build", "--platform", "linux/amd64", "-f", "Dockerfile.gpu", "--build-arg", "WEIGHTS=baked"]
    _run([*build, *arguments, "-t", f"{repository}:{tag}", "."])
    _log_in(ecr, repository)
    _run(["docker", "push", f"{repository}:{tag}"])


def promote_image(ecr: Any, source: Stack, target: Stack, tag: str) -> None:
    """Copy an image from one stack's repository to another's, so that both run the same digest.

    Does nothing if the target has it.

    Raises
    ------
    Refused
        The source has no such image, the target has a different one with this tag, or Docker failed.
    """
    digest = image_digest(ecr, _repository(source).split("/", 1)[1], tag)
    if digest is None:
        raise Refused(f"The repository of {source.name} has no image {tag}.")
    repository = _repository(target)
    name = repository.split("/", 1)[1]
    if not has_tag(ecr, name, tag):
        _log_in(ecr, repository)
        # The manifest is copied as it is: an index around it would have another digest.
        copy = ["docker", "buildx", "imagetools", "create", "--prefer-index=false", "--tag", f"{repository}:{tag}"]
        _run([*copy, f"{_repository(source)}@{digest}"])
    if image_digest(ecr, name, tag) != digest:
        raise Refused(f"The image {tag} of {target.name} is not the one of {source.name} ({digest}).")


def has_tag(ecr: Any, repository: str, tag: str) -> bool:
    """Return whether a repository (its name without the registry) has an image with this tag."""
    return image_digest(ecr, repository, tag) is not None


def image_digest(ecr: Any, repository: str, tag: str) -> str | None:
    """Return the digest of an image, None if there is none with this tag."""
    try:
        (image,) = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
    except ecr.exceptions.ImageNotFoundException:
        return None
    return str(image["imageDigest"])


def _repository(stack: Stack) -> str:
    repository = stack.outputs.get("Repository")
    if repository is None:
        raise Refused(f"The stack {stack.name} has no repository, as it has no workers of its own (Workers=off).")
    return repository


def _check_tag_is_new(ecr: Any, repository: str, tag: str) -> None:
    name = repository.split("/", 1)[1]
    if has_tag(ecr, name, tag):
        raise Refused(
            f"The repository {name} has an image {tag} already, and a tag is one image for ever; take another."
        )


def _log_in(ecr: Any, repository: str) -> None:
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    _run(["docker", "login", "--username", user, "--password-stdin", repository.split("/")[0]], said=password)


def _run(command: Sequence[str], said: str | None = None) -> None:
    done = subprocess.run(command, cwd=ROOT, env=os.environ | VARIABLES, input=said, text=True, check=False)
    if done.returncode:
        raise Refused(f"`{' '.join(command)}` ended with {done.returncode}; see above for why.")
