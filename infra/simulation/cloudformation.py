"""Reads CloudFormation templates and resolves their parameters, as a deployment with these parameters would."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

NESTED = ("AWS::CloudFormation::Stack", "AWS::Serverless::Application")


class _Loader(yaml.CSafeLoader):
    """Supports the short forms of CloudFormation's intrinsic functions."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}"
    match node:
        case yaml.ScalarNode():
            return {name: loader.construct_scalar(node)}
        case yaml.SequenceNode():
            return {name: loader.construct_sequence(node, deep=True)}
        case yaml.MappingNode():
            return {name: loader.construct_mapping(node, deep=True)}
    raise TypeError(f"{node} is no node that a template has")


_Loader.add_multi_constructor("!", _function)


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a template, with parameters and conditions resolved; references to resources are kept."""

    template: str
    name: str
    kind: str
    properties: dict[str, Any]


def read_resources(root: Path, overrides: Mapping[str, Any] | None = None) -> list[Resource]:
    """Return every resource of `template.yaml` and of the templates nested in it."""
    return list(_resources(root / "template.yaml", overrides or {}))


def load_template(file: Path) -> dict[str, Any]:
    """Read a template, with the short forms of functions expanded."""
    template: dict[str, Any] = yaml.load(file.read_text(), Loader=_Loader)  # noqa: S506 - a safe one, with more tags
    return template


def _resources(file: Path, given: Mapping[str, Any]) -> Iterator[Resource]:
    template = load_template(file)
    resolver = Resolver(template, given)
    for name, resource in unrolled(template.get("Resources", {})):
        if not resolver.holds(resource.get("Condition")):
            continue
        properties = resolver.resolve(_with_globals(template, resource))
        yield Resource(file.stem, name, resource["Type"], properties)
        location = properties.get("TemplateURL", properties.get("Location"))
        if resource["Type"] in NESTED and isinstance(location, str):
            parameters = properties.get("Parameters", {})
            yield from _resources(file.parent / location, {k: v for k, v in parameters.items() if _is_plain(v)})


def unrolled(resources: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each resource with its name, those of an `Fn::ForEach` one by one."""
    for name, resource in resources.items():
        if not name.startswith("Fn::ForEach::"):
            yield name, resource
            continue
        identifier, values, fragment = resource
        for value in values:
            yield from _named(fragment, identifier, value).items()


def _named(node: Any, identifier: str, value: str) -> Any:
    match node:
        case dict():
            return {_named(key, identifier, value): _named(one, identifier, value) for key, one in node.items()}
        case list():
            return [_named(one, identifier, value) for one in node]
        case str():
            return node.replace(f"${{{identifier}}}", value)
    return node


def _with_globals(template: Mapping[str, Any], resource: Mapping[str, Any]) -> dict[str, Any]:
    own = dict(resource.get("Properties", {}))
    if resource["Type"] == "AWS::Serverless::Function":
        shared: dict[str, Any] = template.get("Globals", {}).get("Function", {})
        return shared | own
    return own


def _is_plain(value: object) -> bool:
    return not isinstance(value, dict)


class Resolver:
    """Resolves the values that are known before a deployment."""

    def __init__(self, template: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        parameters = template.get("Parameters", {})
        defaults = {name: parameter.get("Default") for name, parameter in parameters.items()}
        self._values = {name: given.get(name, default) for name, default in defaults.items()}
        self._conditions = template.get("Conditions", {})
        self._mappings = template.get("Mappings", {})

    def resolve(self, value: Any) -> Any:
        """Return the value with parameters, conditions and mappings resolved."""
        match value:
            case {"Ref": name, **rest} if not rest and self._values.get(name) is not None:
                return self._values[name]
            case {"Fn::Sub": str(text), **rest} if not rest:
                return self._substituted(text)
            case {"Fn::If": [condition, yes, no], **rest} if not rest:
                return self.resolve(yes if self.holds(condition) else no)
            case {"Fn::FindInMap": [name, *keys], **rest} if not rest:
                return self._find(name, [self.resolve(key) for key in keys])
            case dict():
                resolved = {key: self.resolve(one) for key, one in value.items()}
                return {key: one for key, one in resolved.items() if one != {"Ref": "AWS::NoValue"}}
            case list():
                return [one for one in map(self.resolve, value) if one != {"Ref": "AWS::NoValue"}]
        return value

    def holds(self, condition: Any) -> bool:
        """Return whether a condition, given by name or inline, is true; None is."""
        match condition:
            case None:
                return True
            case str():
                return self.holds(self._conditions[condition])
            case {"Condition": name}:
                return self.holds(name)
            case {"Fn::Equals": [one, other]}:
                return str(self.resolve(one)) == str(self.resolve(other))
            case {"Fn::Not": [one]}:
                return not self.holds(one)
            case {"Fn::And": several}:
                return all(self.holds(one) for one in several)
            case {"Fn::Or": several}:
                return any(self.holds(one) for one in several)
        raise ValueError(f"{condition} is no condition that is known here")

    def _substituted(self, text: str) -> Any:
        """Substitute parameters; a text with any other reference is returned unchanged."""
        known = {name: value for name, value in self._values.items() if _is_plain(value) and value is not None}
        filled = re.sub(r"\$\{(\w+)\}", lambda found: str(known.get(found[1], found[0])), text)
        return {"Fn::Sub": text} if "${" in filled else filled

    def _find(self, name: str, keys: list[Any]) -> Any:
        found = self._mappings[name]
        for key in keys:
            found = found[key]
        return found
