"""One environment of `samconfig.toml`: which stack, in which region, with which parameters."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IMAGE_TAG = "ImageTag"


class Refused(Exception):
    """The operation would do harm or can't work. The message gives the reason and an alternative."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The target of a deployment."""

    name: str
    stack: str
    region: str
    parameters: Mapping[str, str]
    role: str | None = None
    """The role that CloudFormation assumes, instead of using the operator's permissions."""


def load_environment(name: str, config: Path = ROOT / "samconfig.toml") -> Environment:
    """Read an environment.

    Raises
    ------
    Refused
        There is none of this name, no region is set, or it sets a parameter of `make deploy-worker`.
    """
    sections: dict[str, Any] = tomllib.loads(config.read_text())
    if name not in sections or name == "version":
        known = ", ".join(sorted(set(sections) - {"version"}))
        raise Refused(f"{config.name} has no environment {name}; it has {known}.")
    section = sections[name]["deploy"]["parameters"]
    parameters = dict(_pair(override) for override in section.get("parameter_overrides", []))
    if IMAGE_TAG in parameters:
        raise Refused(
            f"{config.name} sets {IMAGE_TAG} for {name}, which would take the workers back with each deployment of "
            f"code. Remove it there; `make deploy-worker ENV={name} TAG={parameters[IMAGE_TAG]}` sets it once."
        )
    region = section.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region:
        raise Refused(f"No region: set AWS_REGION, or region in [{name}.deploy.parameters] of {config.name}.")
    role = os.environ.get("CLOUDFORMATION_ROLE") or None
    return Environment(name, section["stack_name"], region, parameters, role)


def _pair(override: str) -> tuple[str, str]:
    name, equals, value = override.partition("=")
    if not equals:
        raise Refused(f"parameter_overrides should be written as Name=value; this is {override}.")
    return name, value.strip('"')
