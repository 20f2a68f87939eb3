"""Signed API paths, which need no key: HMAC-SHA256, with an expiry that is part of the signature.

They replace the storage's presigned URLs where callers can't reach the storage.  The secret is derived from the
storage credentials, which every process of the service has, so a link also becomes invalid when they change.
"""

import hashlib
import hmac
from datetime import datetime

from pipeline.errors import Expired, Forbidden
from pipeline.ids import Clock

_PURPOSE = b"signed paths of the voice cloning API"


class PathSigner:
    """Signs and verifies paths.

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
        """Return the path with a query that makes it valid for any client until it expires, to the second."""
        expires = int(expires_at.timestamp())
        return f"{path}?expires={expires}&signature={self._signature(path, expires)}"

    def verify(self, path: str, expires: int, signature: str) -> None:
        """Verify the query of a signed path.

        Raises
        ------
        Forbidden
            The signature does not match this path and expiry.
        Expired
            The signature matches, but has expired.
        """
        if not hmac.compare_digest(self._signature(path, expires).encode(), signature.encode()):
            raise Forbidden("The link's signature is not valid. Use the link as it was given.")
        if expires <= self._clock().timestamp():
            raise Expired("The link has expired.")

    def _signature(self, path: str, expires: int) -> str:
        return hmac.new(self._secret, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
