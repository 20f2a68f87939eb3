"""The signature of a voice bundle: a manifest with the hash of each file, signed with the service's Ed25519 key."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pydantic import Field, ValidationError

from pipeline.contract.records import Record
from pipeline.contract.strict_json import parse_json
from pipeline.provenance.bundles.archive import MANIFEST, SIGNATURE, invalid
from pipeline.provenance.signing_key import ALGORITHM, SigningKey, canonical_json

FORMAT = "voice-bundle/1"


class _Signature(Record):
    algorithm: str
    value: str
    public_key: str = Field(max_length=64)


@dataclass(frozen=True, slots=True)
class Signer:
    """The installation that signed a bundle, by its public key."""

    public_key: bytes

    @property
    def key_id(self) -> str:
        """The beginning of the SHA-256 of the key, 16 hex digits."""
        return sha256(self.public_key).hexdigest()[:16]


def signed(files: Mapping[str, bytes], key: SigningKey) -> dict[str, bytes]:
    """Return the files with their manifest and its signature."""
    manifest = {
        "format": FORMAT,
        "files": {
            name: {"bytes": len(content), "sha256": sha256(content).hexdigest()} for name, content in files.items()
        },
    }
    signature = key.signature(manifest) | {"public_key": base64.b64encode(key.public_bytes).decode()}
    return {**files, MANIFEST: _to_json(manifest), SIGNATURE: _to_json(signature)}


def verified(files: Mapping[str, bytes]) -> Signer:
    """Check the manifest and the signature of a bundle. Return who signed it.

    Raises
    ------
    InvalidInput
        The files differ from the manifest, or the manifest from the signature, or one of them is missing.
    """
    missing = {MANIFEST, SIGNATURE} - files.keys()
    if missing:
        raise invalid(f"{min(missing)} is missing. Export the voice again with a version that signs bundles.")
    manifest = _object(files[MANIFEST], MANIFEST)
    signer = _check_signature(manifest, files[SIGNATURE])
    hashes = {
        name: {"bytes": len(content), "sha256": sha256(content).hexdigest()}
        for name, content in files.items()
        if name not in {MANIFEST, SIGNATURE}
    }
    if manifest.get("format") != FORMAT:
        raise invalid(f"{MANIFEST} should have the format {FORMAT!r}.")
    if manifest.get("files") != hashes:
        raise invalid(f"The files are not those of {MANIFEST}.")
    return signer


def _check_signature(manifest: Mapping[str, Any], body: bytes) -> Signer:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        signature = _Signature.model_validate_json(body)
        public_key = base64.b64decode(signature.public_key, validate=True)
        value = base64.b64decode(signature.value, validate=True)
        Ed25519PublicKey.from_public_bytes(public_key).verify(value, canonical_json(manifest))
    except (ValidationError, binascii.Error, ValueError, InvalidSignature) as error:
        raise invalid(f"{SIGNATURE} is not a valid signature of {MANIFEST}.") from error
    if signature.algorithm != ALGORITHM:
        raise invalid(f"{SIGNATURE} should have the algorithm {ALGORITHM!r}.")
    return Signer(public_key)


def _object(body: bytes, name: str) -> dict[str, Any]:
    try:
        parsed = parse_json(body)
    except ValueError as error:
        raise invalid(f"{name} {error}") from error
    if not isinstance(parsed, dict):
        raise invalid(f"{name} should be a JSON object.")
    return parsed


def _to_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()
