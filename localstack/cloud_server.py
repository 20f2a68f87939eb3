"""The embedded AWS with all that the templates deploy: as `embedded_server.py`, and SAM in nested templates too.

AWS expands the SAM resources of every template; ministack does so for the root alone, and would find the functions
of the others to be of no type it knows.
"""

import asyncio
from typing import Any

from embedded_server import main
from ministack.services.cloudformation import changesets, engine, handlers  # noqa: F401  (see below)

_parse = engine._parse_template


def _parse_and_expand(body: str) -> dict[str, Any]:
    """Stand in for how nested templates are parsed.

    The modules imported above, which serve root templates, have the original in their hands already.
    """
    expanded: dict[str, Any] = engine._apply_transforms(_parse(body))
    return expanded


if __name__ == "__main__":
    engine._parse_template = _parse_and_expand
    asyncio.run(main())
