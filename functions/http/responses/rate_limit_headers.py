"""Quotas as the IETF's RateLimit header fields (draft-ietf-httpapi-ratelimit-headers-10)."""

from pipeline.errors import QuotaStatus

POLICY_HEADER = "RateLimit-Policy"
HEADER = "RateLimit"


def headers(*statuses: QuotaStatus) -> dict[str, str]:
    """Return both fields: RFC 9651 lists with one item per quota; empty if there are no quotas."""
    if not statuses:
        return {}
    return {
        POLICY_HEADER: ", ".join(_policy(quota_status) for quota_status in statuses),
        HEADER: ", ".join(_remaining(quota_status) for quota_status in statuses),
    }


def _policy(quota_status: QuotaStatus) -> str:
    unit = f';qu="{quota_status.unit}"' if quota_status.unit else ""
    return f'"{quota_status.policy}";q={quota_status.quota}{unit}{_parameter("w", quota_status.window_seconds)}'


def _remaining(quota_status: QuotaStatus) -> str:
    return f'"{quota_status.policy}";r={quota_status.remaining}{_parameter("t", quota_status.reset_seconds)}'


def _parameter(name: str, value: int | None) -> str:
    return "" if value is None else f";{name}={value}"
