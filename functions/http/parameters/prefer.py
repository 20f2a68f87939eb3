"""The `Prefer` header: how long a client prefers to wait, and for which response (RFC 7240)."""

import re
from collections.abc import Iterable

_PREFERENCE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_NAMED = re.compile(r'\s*(?P<name>[\w!#$%&\'*+.^`|~-]+)\s*(?:=\s*"?(?P<value>[^\s";]*)"?)?\s*(?:;.*)?', re.DOTALL)
_SECONDS = re.compile(r"[0-9]{1,9}")


def parse_prefer(preferences: Iterable[str], longest: float) -> tuple[float, str | None]:
    """Return the seconds to wait, and the value of `Preference-Applied`.

    `respond-async` alone responds immediately. `wait=N` waits for N seconds, with or without `respond-async`:
    on timeout the response is always a job.
    """
    preferred = _read(preferences)
    wait = preferred.get("wait", "")
    if _SECONDS.fullmatch(wait):
        seconds = min(float(wait), longest)
        applied = f"wait={seconds:g}"
        return seconds, f"respond-async, {applied}" if "respond-async" in preferred else applied
    if "respond-async" in preferred:
        return 0, "respond-async"
    return longest, None


def prefers_representation(preferences: Iterable[str]) -> bool:
    """Return whether the client prefers a response with a body: `return=representation`."""
    return _read(preferences).get("return") == "representation"


def _read(preferences: Iterable[str]) -> dict[str, str]:
    """Return the preferences by name; if one is repeated, the first is used (section 2)."""
    found: dict[str, str] = {}
    for preference in _PREFERENCE.findall(",".join(preferences)):
        if named := _NAMED.fullmatch(preference):
            found.setdefault(named["name"].lower(), named["value"] or "")
    return found
