"""Where previews are served."""


def audio_url(job_id: str) -> str:
    """Give the path under which a preview is served."""
    return f"/previews/{job_id}.wav"
