"""Paths of the API that need no key: signed with HMAC-SHA256, valid until a moment that is part of the signature.

They stand in for the storage's presigned URLs where callers can't reach the storage.  The secret is derived from
the credentials of the storage, which every process of the service has, so a link ends with them too.
"""

import hashlib
import hmac
from datetime import datetime

from pipeline.errors import Expired, Forbidden
from pipeline.ids import Clock

_PURPOSE = b"signed paths of the voice cloning API"


class PathSigner:
    """Signs paths and verifies them.

    Parameters
    ----------
    secret
        The secret access key of the storage's credentials.
    clock
        The current time.
    """

    def __init__(self, secret: str, clock: Clock) -> None:
        self._secret = hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256)
        self._clock = clock

    def sign(self, path: str, expires_at: datetime) -> str:
        """Return the path with a query that lets everybody use it until then, to the second."""
        expires = int(expires_at.timestamp())
        return f"{path}?expires={expires}&signature={self._signature(path, expires)}"

    def verify(self, path: str, expires: int, signature: str) -> None:
        """Check what the query of a signed path says.

        Raises
        ------
        Forbidden
            The signature is not that of this path and moment.
        Expired
            It was valid once.
        """
        if not hmac.compare_digest(self._signature(path, expires).encode(), signature.encode()):
            raise Forbidden("The link's signature is not valid; use the link as it was given.")
        if expires <= self._clock().timestamp():
            raise Expired("The link has expired.")

    def _signature(self, path: str, expires: int) -> str:
        return hmac.new(self._secret, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
