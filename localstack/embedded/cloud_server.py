"""The embedded AWS with all that the templates deploy: `server.py`, and SAM in nested templates.

AWS expands the SAM resources of every template; ministack does so for the root template alone, and does not know
the resource type of functions in the others.
"""

import asyncio
from typing import Any

from ministack.services.cloudformation import changesets, engine, handlers  # noqa: F401  (see below)

from embedded.server import main

_parse = engine._parse_template


def _parse_and_expand(body: str) -> dict[str, Any]:
    """Parse a nested template and expand its SAM resources.

    The modules imported above handle root templates; they have already imported the original function.
    """
    expanded: dict[str, Any] = engine._apply_transforms(_parse(body))
    return expanded


def is_deployed_api(path: str) -> bool:
    """Return whether a path is one of a deployed API, which authorizes by itself; its `@connections` do not."""
    return path.startswith("/_aws/execute-api/") and "/@connections" not in path


if __name__ == "__main__":
    engine._parse_template = _parse_and_expand
    asyncio.run(main(services=None, is_public=is_deployed_api))
