"""Links that need no key: each opens one preview at the storage itself, and ends before the preview does."""

from datetime import datetime, timedelta

from pipeline.audio.wav import WAV
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import Failed, Outcome
from pipeline.errors import Expired

DISPOSITION = 'inline; filename="preview.wav"'

# The storage's clock may differ a little from ours.
_MARGIN = timedelta(seconds=1)


async def signed(resources: Resources, job_id: str, expires_at: datetime) -> str:
    """Make a link to a preview that expires then; it may end sooner, with the credentials that sign it.

    Raises
    ------
    Expired
        There is no time left for it.
    """
    lifetime = expires_at - resources.clock() - _MARGIN
    if lifetime < _MARGIN:
        raise Expired("The preview has expired; previews are kept for a short while only.", field="job_id")
    key = layout.preview(job_id)
    return await resources.bucket.presign_get(key, lifetime=lifetime, content_type=WAV, disposition=DISPOSITION)


async def signed_url(resources: Resources, outcome: Outcome) -> str | None:
    """Make a link to a job's preview; None where there is none, or no time left for one."""
    if isinstance(outcome, Failed) or outcome.preview is None:
        return None
    try:
        return await signed(resources, outcome.job_id, outcome.preview.expires_at)
    except Expired:
        return None
