"""Which web pages may use the service, by origin."""

from collections.abc import Collection

REFUSAL = "Pages of this origin may not use the service; name it in CORS_ORIGINS to let them."


def may_use(origin: str | None, host: str | None, allowed: Collection[str]) -> bool:
    """Return whether requests from pages of an origin are allowed; clients other than browsers send none.

    Parameters
    ----------
    origin, host
        The values of the `Origin` and `Host` headers.
    allowed
        The allowed origins in the settings.
    """
    return origin is None or origin in allowed or origin.partition("://")[2] == (host or "").lower() != ""
