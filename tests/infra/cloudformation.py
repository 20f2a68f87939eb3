"""The templates with CloudFormation's short forms expanded: `!Ref x` is `{"Ref": "x"}`."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from infra.simulation.cloudformation import unrolled

ROOT = Path(__file__).parents[2]
# The stack of the deployment role is separate: an administrator deploys it once.
SEPARATE_STACKS = {"github-role"}
TEMPLATES = {
    path.stem: path for path in sorted((ROOT / "infra").glob("[a-z]*.yaml")) if path.stem not in SEPARATE_STACKS
} | {"root": ROOT / "template.yaml"}

Node = dict[str, Any]


class _Loader(yaml.CSafeLoader):
    """Expands the short forms of CloudFormation's functions."""


def _function(loader: _Loader, tag: str, node: yaml.Node) -> Node:
    name = tag if tag in {"Ref", "Condition"} else f"Fn::{tag}"
    if isinstance(node, yaml.ScalarNode):
        text = loader.construct_scalar(node)
        return {name: str(text).split(".", 1) if tag == "GetAtt" else text}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _function)


@cache
def template(name: str) -> Node:
    """Return a template: `root`, or one of `infra/` by its name."""
    return load(TEMPLATES[name])


def load(path: Path) -> Node:
    """Read a template from a file."""
    loaded: Node = yaml.load(path.read_text(), Loader=_Loader)
    return loaded


def resources(name: str, type_: str = "") -> dict[str, Node]:
    """Return the resources of a template, of one type or of all."""
    found = dict(unrolled(template(name)["Resources"]))
    return {id_: one for id_, one in found.items() if type_ in {"", one["Type"]}}


def everywhere(type_: str) -> dict[str, Node]:
    """Return the resources of a type in all templates, as `template.LogicalId`."""
    return {f"{name}.{id_}": one for name in TEMPLATES for id_, one in resources(name, type_).items()}


def properties(name: str, id_: str) -> Node:
    """Return the properties of one resource."""
    found: Node = resources(name)[id_]["Properties"]
    return found


def statements(name: str, role: str) -> list[Node]:
    """Return all statements of a role's inline policies."""
    return [
        statement
        for policy in properties(name, role)["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
    ]


def as_list(value: Any) -> list[Any]:
    """Return a list, also for a single value."""
    return value if isinstance(value, list) else [value]


def nested() -> dict[str, tuple[str, Node]]:
    """Return the outer template and the parameters of each nested template, by its name."""
    return {
        Path(one["Properties"]["Location"]).stem: (outer, one["Properties"].get("Parameters", {}))
        for outer in TEMPLATES
        for one in resources(outer, "AWS::Serverless::Application").values()
    }


def values(node: Any) -> list[Any]:
    """Return every scalar in a node."""
    match node:
        case dict():
            return [inner for value in node.values() for inner in values(value)]
        case list():
            return [inner for value in node for inner in values(value)]
        case _:
            return [node]


FUNCTIONS = everywhere("AWS::Serverless::Function")


def function(name: str) -> dict[str, Any]:
    """Return the properties of a function, including the globals."""
    shared: dict[str, Any] = template(name.split(".")[0])["Globals"]["Function"]
    own: dict[str, Any] = FUNCTIONS[name]["Properties"]
    return shared | own


def environment(name: str) -> dict[str, Any]:
    """Return the variables of a function, including the globals."""
    places = template(name.split(".")[0])["Globals"]["Function"], FUNCTIONS[name]["Properties"]
    return {
        key: value for place in places for key, value in place.get("Environment", {}).get("Variables", {}).items()
    }
