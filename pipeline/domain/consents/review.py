"""The review of a consent by an administrator."""

from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import ConsentReview
from pipeline.domain import voices
from pipeline.domain.consents import found, recorded
from pipeline.domain.consents.found import FoundConsent, KeptBy
from pipeline.errors import InvalidInput


async def decide(resources: Resources, consent_id: str, review: ConsentReview) -> FoundConsent:
    """Accept or reject a consent, and the copies that voices keep.

    Raises
    ------
    NotFound
        There is no such consent.
    InvalidInput
        It has no recording yet.
    """
    consent = await found.find(resources, consent_id)
    if consent.record.recording_sha256 is None:
        raise InvalidInput("The consent has no recording yet.", field="consent_id")
    for kept in consent.kept:
        await _decide_kept(resources, kept, review)
    if consent.recorded:
        await recorded.change(resources, consent_id, review=review)
    return await found.find(resources, consent_id)


async def _decide_kept(resources: Resources, kept: KeptBy, review: ConsentReview) -> None:
    """Change the copy of a voice. After a concurrent change, it is read again."""
    voice, etag, owner = kept.voice, kept.etag, kept.named.owner
    key = layout.voice(owner, voice.voice_id).metadata
    while voice.consent:
        reviewed = voice.model_copy(update={"consent": voice.consent.model_copy(update={"review": review})})
        if await resources.voices.replace(key, reviewed.to_json(), JSON, etag=etag):
            return
        voice, etag = await voices.get_with_etag(resources, owner, voice.voice_id)
