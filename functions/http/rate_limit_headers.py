"""How an owner's shares stand, as the IETF's RateLimit header fields (draft-ietf-httpapi-ratelimit-headers-10)."""

from pipeline.errors import Standing

POLICY_HEADER = "RateLimit-Policy"
HEADER = "RateLimit"


def headers(*standings: Standing) -> dict[str, str]:
    """Write both fields: lists, in the syntax of RFC 9651, with one item a share; nothing for none."""
    if not standings:
        return {}
    return {
        POLICY_HEADER: ", ".join(_policy(standing) for standing in standings),
        HEADER: ", ".join(_remaining(standing) for standing in standings),
    }


def _policy(standing: Standing) -> str:
    unit = f';qu="{standing.unit}"' if standing.unit else ""
    return f'"{standing.policy}";q={standing.quota}{unit}{_parameter("w", standing.window_seconds)}'


def _remaining(standing: Standing) -> str:
    return f'"{standing.policy}";r={standing.remaining}{_parameter("t", standing.reset_seconds)}'


def _parameter(name: str, value: int | None) -> str:
    return "" if value is None else f";{name}={value}"
