"""Temporary links that need no key: each one is for one preview, or for the upload of one session's recording.

They are URLs of the storage.  If callers can't reach the storage, they are paths of the API, which `absolute`
completes.
"""

from datetime import datetime, timedelta

from pipeline.audio.wav import WAV
from pipeline.clients.resources import Resources
from pipeline.clients.storage import UploadForm
from pipeline.contract import layout, retention
from pipeline.contract.records import Failed, Outcome
from pipeline.errors import Expired

DISPOSITION = 'inline; filename="preview.wav"'

PREVIEW_PATH = "/signed/previews/{job_id}.wav"
UPLOAD_PATH = "/signed/uploads/{session_id}"

# Tolerance for a difference between the clocks of the storage and of this process.
_MARGIN = timedelta(seconds=1)


async def signed(resources: Resources, job_id: str, expires_at: datetime) -> str:
    """Return a link to a preview that is valid until `expires_at`, or until the signing credentials expire.

    Raises
    ------
    Expired
        Too little time is left.
    """
    lifetime = expires_at - resources.clock() - _MARGIN
    if lifetime < _MARGIN:
        raise retention.preview_expired()
    if resources.path_signer is not None:
        return resources.path_signer.sign(PREVIEW_PATH.format(job_id=job_id), expires_at)
    key = layout.preview(job_id)
    return await resources.bucket.presign_get(key, lifetime=lifetime, content_type=WAV, disposition=DISPOSITION)


async def upload_form(resources: Resources, session_id: str, content_type: str) -> UploadForm:
    """Return a form by which a session's recording can be uploaded. It expires no later than the session."""
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
    """Return a link as an absolute URL for a caller that uses the API at `base_url`."""
    return base_url.rstrip("/") + url if base_url and url.startswith("/") else url


async def signed_url(resources: Resources, outcome: Outcome, base_url: str | None) -> str | None:
    """Return a link to a job's preview for a client of the API at `base_url`, or None if there is none."""
    if isinstance(outcome, Failed) or outcome.preview is None:
        return None
    try:
        url = await signed(resources, outcome.job_id, outcome.preview.expires_at)
    except Expired:
        return None
    return absolute(url, base_url)
