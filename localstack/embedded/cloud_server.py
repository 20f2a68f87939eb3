"""The embedded AWS with all services of the templates: `server.py`, and the features that ministack lacks.

AWS expands the SAM resources of every template; ministack does so for the root template alone, and does not know
the resource type of functions in the others.  Resources of types that it does not know are recorded and do nothing.
"""

import asyncio
from typing import Any

from ministack.app import app
from ministack.services.cloudformation import changesets, engine, handlers, provisioners  # noqa: F401  (see below)

from embedded.server import main

NOT_EMULATED = (
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::Budgets::Budget",
    "AWS::ECS::CapacityProvider",
    "AWS::ECS::ClusterCapacityProviderAssociations",
    "AWS::Logs::QueryDefinition",
)
ALARM = "AWS::CloudWatch::Alarm"

_parse = engine._parse_template
_alarm = provisioners._RESOURCE_HANDLERS[ALARM]


def _parse_and_expand(body: str) -> dict[str, Any]:
    """Parse a nested template and expand its SAM resources.

    The modules imported above handle root templates; they have already imported the original function.
    """
    expanded: dict[str, Any] = engine._apply_transforms(_parse(body))
    return expanded


def is_deployed_api(path: str) -> bool:
    """Return whether a path is of a deployed API, which authorizes requests itself; its `@connections` do not."""
    return path.startswith("/_aws/execute-api/") and "/@connections" not in path


def _record(logical_id: str, _properties: dict[str, Any], stack_name: str) -> tuple[str, dict[str, Any]]:
    return f"{stack_name}-{logical_id}", {}


def _create_alarm(logical_id: str, properties: dict[str, Any], stack_name: str) -> tuple[str, dict[str, Any]]:
    """Create an alarm on one metric; for those on metric math, which the emulator rejects, store only the name."""
    create = _record if properties.get("Metrics") else _alarm["create"]
    created: tuple[str, dict[str, Any]] = create(logical_id, properties, stack_name)
    return created


def _update_alarm(physical_id: str, old: Any, new: dict[str, Any], *more: Any) -> tuple[str, dict[str, Any]]:
    if new.get("Metrics"):
        return physical_id, {}
    updated: tuple[str, dict[str, Any]] = _alarm["update"](physical_id, old, new, *more)
    return updated


def _forget(*_: object) -> None:
    """Delete nothing: the resource was only recorded."""


def _keep_attributes_of_nested_resources() -> None:
    """Store the attributes of each resource for `Fn::GetAtt`.

    ministack loses them for resources of nested stacks that an update does not change.
    """
    provision, update = provisioners._provision_resource, provisioners._update_resource
    known: dict[tuple[str, str], dict[str, Any]] = {}

    def provision_and_remember(
        type_: str, logical_id: str, properties: Any, stack: str
    ) -> tuple[str, dict[str, Any]]:
        physical_id, attributes = provision(type_, logical_id, properties, stack)
        known[stack, logical_id] = attributes
        return physical_id, attributes

    def update_and_remember(
        type_: str, physical_id: str, old: Any, new: Any, stack: str, logical_id: str, *more: Any, **named: Any
    ) -> tuple[str, dict[str, Any]]:
        physical_id, attributes = update(type_, physical_id, old, new, stack, logical_id, *more, **named)
        known[stack, logical_id] = attributes or known.get((stack, logical_id), {})
        return physical_id, known[stack, logical_id]

    provisioners._provision_resource, provisioners._update_resource = provision_and_remember, update_and_remember


def _accept_what_is_not_emulated() -> None:
    recorded = {"create": _record, "delete": _forget}
    provisioners._RESOURCE_HANDLERS.update(dict.fromkeys(NOT_EMULATED, recorded))
    provisioners._RESOURCE_HANDLERS[ALARM] = _alarm | {"create": _create_alarm, "update": _update_alarm}


if __name__ == "__main__":
    _accept_what_is_not_emulated()
    _keep_attributes_of_nested_resources()
    engine._parse_template = _parse_and_expand
    asyncio.run(main(app, None, is_deployed_api))
