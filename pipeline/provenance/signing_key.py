"""The service's Ed25519 key (RFC 8032) for receipts: `SIGNING_KEY`, or one that is created once and stored.

The signed bytes are JSON in the form of RFC 8785. Records without numbers other than integers have this form with
sorted keys and without whitespace.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.errors import Unavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALGORITHM = "Ed25519"
_SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key."""

    private: "Ed25519PrivateKey"

    @property
    def public_bytes(self) -> bytes:
        """The public key, 32 bytes."""
        return self.private.public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        """The beginning of the SHA-256 of the public key, 16 hex digits."""
        return sha256(self.public_bytes).hexdigest()[:16]

    def signature(self, signed: Mapping[str, Any]) -> dict[str, str]:
        """Return the signature of a JSON object: algorithm, key id and value (base64)."""
        value = base64.b64encode(self.private.sign(canonical_json(signed))).decode()
        return {"algorithm": ALGORITHM, "key_id": self.key_id, "value": value}


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """Return the bytes that are signed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


async def signing_key(resources: Resources) -> SigningKey:
    """Return the key of the service.

    Raises
    ------
    Unavailable
        The storage does not respond.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    setting = resources.settings.signing_key
    seed = base64.b64decode(setting.get_secret_value()) if setting else await _stored_seed(resources)
    return SigningKey(Ed25519PrivateKey.from_private_bytes(seed))


async def _stored_seed(resources: Resources) -> bytes:
    bucket, key = resources.voices, layout.SIGNING_KEY
    seed = await bucket.get(key)
    if seed is None:
        await bucket.put_once(key, secrets.token_bytes(_SEED_BYTES), "application/octet-stream")
        seed = await bucket.get(key)
    if seed is None:
        raise Unavailable("The signing key was deleted.")
    return seed
