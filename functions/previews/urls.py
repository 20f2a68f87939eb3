"""Where previews are served."""


def audio_url(job_id: str, extension: str = "wav") -> str:
    """Give the path under which a preview is served."""
    return f"/previews/{job_id}.{extension}"
