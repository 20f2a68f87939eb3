"""URL paths of previews."""


def audio_url(job_id: str, extension: str = "wav") -> str:
    """Return the path of a preview."""
    return f"/previews/{job_id}.{extension}"
