"""Verification of audio: its marks, and the job that generated it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.audio.formats import Container, check_container
from pipeline.clients.resources import Resources
from pipeline.domain import jobs
from pipeline.errors import InvalidAudio, NotFound
from pipeline.ids import Owner
from pipeline.marking import manifest
from pipeline.marking.checkpoints import PackageMissing
from pipeline.marking.manifest import Manifest
from pipeline.provenance import fingerprints
from pipeline.provenance.manifests import Manifests
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.marking.fingerprint import Words
    from pipeline.marking.watermark import Detection

_MEDIA_TYPES: dict[Container, str] = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "mov": "audio/mp4",
}

MatchedBy = Literal["manifest", "fingerprint"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a file contains."""

    has_manifest_format: bool
    """Manifests of this format can be read here."""
    manifest: Manifest | None
    watermark: "Detection | None"
    """None if the decoder is not installed, or the audio can't be decoded."""
    excerpts: list["Words"]

    @property
    def is_marked(self) -> bool:
        """Whether there is a watermark, or a valid manifest of synthetic audio."""
        signed = self.manifest is not None and self.manifest.is_valid and self.manifest.is_synthetic
        return signed or (self.watermark is not None and self.watermark.is_marked)


@dataclass(frozen=True, slots=True)
class Found:
    """The job that generated the audio."""

    job: jobs.Job
    matched_by: MatchedBy


def examine(data: bytes, settings: Settings, trust_anchors: str) -> Evidence:
    """Return what a file contains. A second of audio takes about 20 ms of CPU time.

    Call it in a thread, while `Resources.decoding` is held, which bounds memory and CPU time.

    Raises
    ------
    InvalidAudio
        The file exceeds the limits of a reference recording, or is not audio, and has no manifest.
    """
    # Importing numpy and libsndfile is a quarter of a cold start.
    from pipeline.audio.reference_audio import decode_reference
    from pipeline.marking.fingerprint import excerpts
    from pipeline.marking.watermark import detect

    media_type = None if manifest.missing_package() else _MEDIA_TYPES.get(check_container(data))
    found = manifest.read(data, media_type, trust_anchors) if media_type else None
    try:
        recording = decode_reference(data, settings)
    except InvalidAudio:
        if found is None:
            raise
        return Evidence(True, found, None, [])
    try:
        watermark = detect(recording.samples, recording.sample_rate)
    except PackageMissing:
        watermark = None
    return Evidence(media_type is not None, found, watermark, excerpts(recording.samples, recording.sample_rate))


async def find_job(resources: Resources, manifests: Manifests, owner: Owner, evidence: Evidence) -> Found | None:
    """Return the owner's job that generated the audio, by manifest or fingerprint. None if there is no record.

    Raises
    ------
    Unavailable
        The storage does not respond.
    """
    found = evidence.manifest
    is_own = found is not None and found.is_valid and found.serial_number == await manifests.serial_number()
    origin = found.origin if found and is_own else None
    if origin and (job := await _job(resources, owner, origin.job_id)):
        return Found(job, "manifest")
    job_id = await fingerprints.find_job(resources, owner, evidence.excerpts)
    job = await _job(resources, owner, job_id) if job_id else None
    return Found(job, "fingerprint") if job else None


async def _job(resources: Resources, owner: Owner, job_id: str) -> jobs.Job | None:
    try:
        return await jobs.read(resources, owner, job_id)
    except NotFound:
        return None
