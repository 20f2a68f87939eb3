"""The revocation of a consent by its speaker."""

from pipeline.access.audit.entries import record
from pipeline.clients.resources import Resources
from pipeline.contract.records import Source
from pipeline.contract.revocations import Certificate
from pipeline.domain.consents.found import FoundConsent
from pipeline.domain.revocation import derived_objects
from pipeline.domain.revocation.revoke import revoke_voice


async def revoke_consent(resources: Resources, consent: FoundConsent) -> list[Certificate]:
    """Delete a consent, the voices that keep it, and everything made from the upload that it is for.

    The recorded consent is deleted last: after a failure, the link can be used again.
    """
    certificates = [
        await revoke_voice(resources, kept.named.owner, kept.named.voice_id, "consent_revoked")
        for kept in consent.kept
    ]
    if consent.recorded:
        reference = consent.recorded.record.reference or Source(session_id=consent.consent_id)
        if not certificates:  # else it is recorded for the voices
            await record(
                resources,
                reference.owner,
                "revoked",
                reference.voice_id,
                entry_id=f"{consent.consent_id}-revoked",
                session_id=reference.session_id,
            )
        await _delete_upload(resources, consent.consent_id, reference)
    return certificates


async def _delete_upload(resources: Resources, consent_id: str, reference: Source) -> None:
    upload = Certificate(
        revocation_id=consent_id,
        voice_id="",
        owner=reference.owner,
        reference_id=reference.session_id or consent_id,
        consent_ids=(consent_id,),
        reason="consent_revoked",
        requested_at=resources.clock(),
        folders=(),
    )
    found = await derived_objects.find(resources, upload, is_last=True)
    await found.delete(resources)
