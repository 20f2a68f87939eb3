"""Requests through CloudFront: proof of their origin, and the address of the client."""

import hmac
from collections.abc import Mapping
from ipaddress import ip_address

from pipeline.errors import Forbidden
from pipeline.settings import Settings

# CloudFront adds both, and replaces what a client sends under these names; see infra/edge.yaml.
SECRET_HEADER = "x-origin-secret"  # noqa: S105 - the header's name
ADDRESS_HEADER = "x-viewer-address"


def viewer_address(headers: Mapping[str, str], source: str, settings: Settings) -> str:
    """Return the client's address: the one that CloudFront reports if there is an origin secret, else `source`.

    The names of `headers` are in lower case; `source` is the address that the gateway received the request from.

    Raises
    ------
    Forbidden
        There is an origin secret and the request lacks it: it bypassed CloudFront, and with it the web ACL.
    """
    secret = settings.origin_secret
    if secret is None:
        return source
    given = headers.get(SECRET_HEADER, "")
    if not hmac.compare_digest(given.encode(), secret.get_secret_value().encode()):
        raise Forbidden("Use the domain of the service. This URL accepts no direct requests.")
    address = headers.get(ADDRESS_HEADER, "")
    return address if _is_address(address) else source


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
