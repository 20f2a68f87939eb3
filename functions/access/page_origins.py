"""Which web pages may use the service, told by their origin."""

from collections.abc import Collection

REFUSAL = "Pages of this origin may not use the service; name it in CORS_ORIGINS to let them."


def may_use(origin: str | None, host: str | None, allowed: Collection[str]) -> bool:
    """Return whether a request may come from a page of an origin; programs send none.

    Parameters
    ----------
    origin, host
        The headers of that name.
    allowed
        The origins that the settings name.
    """
    return origin is None or origin in allowed or origin.partition("://")[2] == (host or "").lower() != ""
