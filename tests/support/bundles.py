"""Voice bundles for tests."""

from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pipeline.audio.reference_audio import encoded
from pipeline.provenance.bundles import archive, signature
from pipeline.provenance.signing_key import SigningKey
from tests.support.fake_service import reference_recording


@cache
def foreign_bundle() -> bytes:
    """Return a bundle that another installation has signed."""
    metadata = b'{"voice_id": "ann", "name": "Ann", "created_at": "2025-01-01T00:00:00Z"}'
    files = {archive.METADATA: metadata, archive.RECORDING: encoded(reference_recording()).wav}
    key = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    return archive.pack(signature.signed(files, key))
