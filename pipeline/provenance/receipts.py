"""Receipts of consents for their speakers, signed by the service."""

from typing import Any

from pipeline.clients.resources import Resources
from pipeline.contract.records import format_utc
from pipeline.domain.consents.found import FoundConsent
from pipeline.errors import NotFound
from pipeline.provenance.signing_key import signing_key

RECEIPT_PATH = "/consents/{consent_id}/receipt"
REVOCATION_PATH = "/consents/{consent_id}/revocation"


def link(base_url: str, path: str, consent_id: str, token: str) -> str:
    """Return a link for the speaker, which needs no key."""
    return f"{base_url.rstrip('/')}{path.format(consent_id=consent_id)}?token={token}"


async def receipt(resources: Resources, consent: FoundConsent, token: str, base_url: str) -> dict[str, Any]:
    """Return the receipt of a consent, and its signature.

    Raises
    ------
    NotFound
        The consent has no recording yet.
    """
    record = consent.record
    if record.given_at is None:
        raise NotFound("The consent has no recording yet.", field="consent_id")
    content = {
        "type": "voice-consent-receipt",
        "consent_id": consent.consent_id,
        "person": record.person,
        "operator": record.operator,
        "purposes": list(record.purposes),
        "languages": list(record.languages),
        "statement": record.text,
        "given_at": format_utc(record.given_at),
        "expires_at": format_utc(record.expires_at) if record.expires_at else None,
        "reference_sha256": record.reference_sha256,
        "recording_sha256": record.recording_sha256,
        "status": record.status,
        "issued_at": format_utc(resources.clock()),
        "revocation_url": link(base_url, REVOCATION_PATH, consent.consent_id, token),
    }
    return {"receipt": content, "signature": (await signing_key(resources)).signature(content)}
