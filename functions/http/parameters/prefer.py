"""How long a client would rather wait (RFC 7240)."""

import re
from collections.abc import Iterable

_PREFERENCE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_NAMED = re.compile(r'\s*(?P<name>[\w!#$%&\'*+.^`|~-]+)\s*(?:=\s*"?(?P<value>[^\s";]*)"?)?\s*(?:;.*)?', re.DOTALL)
_SECONDS = re.compile(r"[0-9]{1,9}")


def parse_prefer(preferences: Iterable[str], longest: float) -> tuple[float, str | None]:
    """Return how many seconds to wait, and the value of `Preference-Applied`.

    `respond-async` alone answers at once, `wait=N` waits so long, and both together mean the same as `wait=N`:
    whoever waits here gets a job when the time is over, whether or not it was asked for.
    """
    wanted = _read(preferences)
    wait = wanted.get("wait", "")
    if _SECONDS.fullmatch(wait):
        seconds = min(float(wait), longest)
        applied = f"wait={seconds:g}"
        return seconds, f"respond-async, {applied}" if "respond-async" in wanted else applied
    if "respond-async" in wanted:
        return 0, "respond-async"
    return longest, None


def _read(preferences: Iterable[str]) -> dict[str, str]:
    """Read the preferences by name; of one given twice the first counts (section 2)."""
    found: dict[str, str] = {}
    for preference in _PREFERENCE.findall(",".join(preferences)):
        if named := _NAMED.fullmatch(preference):
            found.setdefault(named["name"].lower(), named["value"] or "")
    return found
