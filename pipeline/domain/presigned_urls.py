"""Links that need no key: each opens one preview, or lets one session's recording be uploaded, for a while.

They lead to the storage itself.  Where callers can't reach that, they are paths of the API, which `absolute`
completes.
"""

from datetime import datetime, timedelta
from urllib.parse import urljoin

from pipeline.audio.wav import WAV
from pipeline.clients.resources import Resources
from pipeline.clients.storage import UploadForm
from pipeline.contract import layout
from pipeline.contract.records import Failed, Outcome
from pipeline.errors import Expired

DISPOSITION = 'inline; filename="preview.wav"'

PREVIEW_PATH = "/signed/previews/{job_id}.wav"
UPLOAD_PATH = "/signed/uploads/{session_id}"

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
    if resources.path_signer is not None:
        return resources.path_signer.sign(PREVIEW_PATH.format(job_id=job_id), expires_at)
    key = layout.preview(job_id)
    return await resources.bucket.presign_get(key, lifetime=lifetime, content_type=WAV, disposition=DISPOSITION)


async def upload_form(resources: Resources, session_id: str, content_type: str) -> UploadForm:
    """Return a form by which a session's recording can be uploaded; it is of use no longer than the session."""
    settings = resources.settings
    if resources.path_signer is not None:
        expires_at = resources.clock() + settings.upload_form_lifetime
        return UploadForm(resources.path_signer.sign(UPLOAD_PATH.format(session_id=session_id), expires_at), {})
    return await resources.bucket.presign_post(
        layout.session(session_id).unchecked_audio,
        content_type=content_type,
        max_bytes=settings.reference_max_bytes,
        lifetime=settings.upload_form_lifetime,
    )


def absolute(url: str, base_url: str | None) -> str:
    """Return a link as a URL that the caller can use, who reached the API at `base_url`."""
    return urljoin(base_url, url) if base_url else url


async def signed_url(resources: Resources, outcome: Outcome, base_url: str | None) -> str | None:
    """Return a link to a job's preview for a client of the API at `base_url`; None if there is none to be had."""
    if isinstance(outcome, Failed) or outcome.preview is None:
        return None
    try:
        url = await signed(resources, outcome.job_id, outcome.preview.expires_at)
    except Expired:
        return None
    return absolute(url, base_url)
