"""The address of a client whose request comes through CloudFront, where the gateway sees CloudFront's own."""

import hmac
from collections.abc import Mapping
from ipaddress import ip_address

from pipeline.settings import Settings

# CloudFront adds both, and replaces what a client sends under these names; see infra/edge.yaml.
SECRET_HEADER = "x-origin-secret"  # noqa: S105 - the header's name
ADDRESS_HEADER = "x-viewer-address"


def viewer_address(headers: Mapping[str, str], source: str, settings: Settings) -> str:
    """Return the client's address: the one that CloudFront reports if the request has its secret, else `source`.

    The names of `headers` are in lower case; `source` is the address that the gateway received the request from.
    """
    secret, address = settings.origin_secret, headers.get(ADDRESS_HEADER, "")
    if secret is None or not _is_address(address):
        return source
    given = headers.get(SECRET_HEADER, "")
    return address if hmac.compare_digest(given.encode(), secret.get_secret_value().encode()) else source


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
