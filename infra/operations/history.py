"""The history of deployments, kept in Systems Manager beside the stack, for rollbacks."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infra.operations.environment import ROOT, Refused

KEPT = 12  # versions; the longest fit into a parameter


@dataclass(frozen=True, slots=True)
class Version:
    """The contents of a deployment."""

    commit: str
    """A commit of this repository; it ends in `-dirty` where files differed from it."""
    image_tag: str
    at: str
    """ISO 8601, UTC."""

    def is_as(self, other: "Version") -> bool:
        """Return whether both deployed the same code and image."""
        return (self.commit, self.image_tag) == (other.commit, other.image_tag)


def read_history(ssm: Any, stack: str) -> list[Version]:
    """Return the deployed versions, the latest last."""
    try:
        text = ssm.get_parameter(Name=_name(stack))["Parameter"]["Value"]
    except ssm.exceptions.ParameterNotFound:
        return []
    return [Version(**one) for one in json.loads(text)]


def note_version(ssm: Any, stack: str, version: Version) -> None:
    """Add a deployed version."""
    versions = [*read_history(ssm, stack), version][-KEPT:]
    text = json.dumps([asdict(one) for one in versions], separators=(",", ":"))
    ssm.put_parameter(Name=_name(stack), Value=text, Type="String", Overwrite=True)


def forget_history(ssm: Any, stack: str) -> None:
    """Delete the history of a deleted stack."""
    ssm.delete_parameters(Names=[_name(stack)])


def version_before(versions: Sequence[Version]) -> Version:
    """Return the last version that differs from the one deployed now.

    Raises
    ------
    Refused
        There is none, or it is the version before the first image.
    """
    for version in reversed(versions[:-1]):
        if not version.is_as(versions[-1]):
            if versions[-1].image_tag and not version.image_tag:
                raise Refused(
                    f"{versions[-1].image_tag} is the first image; there is none to go back to. Deploy another: "
                    f"`make worker-image TAG=…`, `make deploy-worker TAG=…`."
                )
            return version
    raise Refused("Nothing else was deployed before, as far as is known; there is nothing to go back to.")


def commit_here() -> str:
    """Return the commit that is checked out, with `-dirty` where files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match=", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _name(stack: str) -> str:
    return f"/{stack}/deployments"
