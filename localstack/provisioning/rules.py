"""Rules on resources that others may configure too, and features that a storage may lack."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from botocore.exceptions import ClientError

log = structlog.get_logger()

Rule = dict[str, Any]

OURS = "voice-cloning-"  # the prefix of our rules' ids


def merged(found: Sequence[Any], ours: Sequence[Rule], *, key: str) -> list[Any]:
    """Return the rules found, with those of the same ids replaced by ours; the others are unchanged."""
    by_id = {rule[key]: rule for rule in ours}
    kept = [by_id.pop(rule.get(key), rule) for rule in found]
    return [*kept, *by_id.values()]


@contextmanager
def optional(feature: str, consequence: str) -> Iterator[None]:
    """Log and continue if the storage lacks or refuses a feature."""
    try:
        yield
    except ClientError as error:
        reason = error.response["Error"]
        log.warning(
            "the storage does not support " + feature,
            consequence=consequence,
            code=reason.get("Code"),
            reason=reason.get("Message"),
        )
