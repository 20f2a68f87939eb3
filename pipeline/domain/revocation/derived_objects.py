"""The stored objects of a voice that is being revoked: its files, the session it came from, and its jobs."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.access.audit.entries import record_use
from pipeline.clients.resources import Resources
from pipeline.clients.storage import ObjectVersion
from pipeline.contract import layout, retention
from pipeline.contract.records import Failed, Outcome
from pipeline.contract.revocations import Certificate, RemainingData, RemovedObject
from pipeline.domain import jobs, voices
from pipeline.domain.revocation import derived
from pipeline.domain.revocation.derived import READS_AT_ONCE, MarkedJob
from pipeline.errors import StorageFull, VoiceDeleted
from pipeline.ids import Owner

_KINDS = {
    layout.UPLOADS: "upload",
    layout.PREVIEWS: "preview",
    layout.JOBS: "job",
    layout.WEBHOOK_ATTEMPTS: "webhook_attempt",
    layout.IDEMPOTENCY: "stored_response",
    layout.DERIVED: "job_marker",
    layout.FINGERPRINTS: "fingerprint",
}
_KINDS_OF_FILES = {
    "source.wav": "recording",
    "transcription.txt": "transcription",
    "embedding.json": "prompt",
    "check.json": "reference_check",
    layout.METADATA_FILE: "metadata",
}


@dataclass(slots=True)
class DerivedObjects:
    """What is stored of a voice now. `markers` are deleted after everything that is found by them."""

    versions: list[ObjectVersion] = field(default_factory=list)
    metadata: list[ObjectVersion] = field(default_factory=list)
    """The current metadata, which is deleted last: while it exists, no other voice can have the id."""
    keys: list[str] = field(default_factory=list)
    markers: list[str] = field(default_factory=list)
    remaining: list[RemainingData] = field(default_factory=list)

    def as_removed(self) -> Iterable[RemovedObject]:
        """Return the objects that `delete` deletes."""
        versions = Counter(version.key for version in [*self.versions, *self.metadata])
        for key in [*dict.fromkeys(self.keys), *self.markers]:
            yield RemovedObject(kind=kind_of(key), key=key)
        for key, count in versions.items():
            yield RemovedObject(kind=kind_of(key), key=key, versions=count)

    async def delete(self, resources: Resources) -> None:
        """Delete all of them."""
        await resources.bucket.delete(self.keys)
        await resources.voices.delete_versions(self.versions)
        await resources.voices.delete_versions(self.metadata)
        await resources.bucket.delete(self.markers)


def kind_of(key: str) -> str:
    """Return the kind of an object for a certificate."""
    for prefix, kind in _KINDS.items():
        if key.startswith(prefix):
            return kind
    return _KINDS_OF_FILES.get(key.rpartition("/")[2], "consent")


async def find(resources: Resources, revoked: Certificate, *, is_last: bool) -> DerivedObjects:
    """End the open jobs of a voice, and return its objects.

    The markers, and the subscribers of jobs that a revocation has ended, are left until the last time.
    """
    found = DerivedObjects()
    await _add_versions(resources, revoked, found)
    for session_id in (revoked.reference_id, *revoked.consent_ids):
        found.keys += [item.key async for item in resources.bucket.list(layout.session(session_id).folder)]
    marked = await derived.jobs_of(resources, revoked)
    for start in range(0, len(marked), READS_AT_ONCE):
        some = marked[start : start + READS_AT_ONCE]
        await asyncio.gather(*(_add_job(resources, revoked.owner, job, found, is_last=is_last) for job in some))
    if is_last:
        found.markers += [job.marker_key for job in marked]
        found.markers += [layout.listed_consent(revoked.owner, consent_id) for consent_id in revoked.consent_ids]
    return found


async def _add_versions(resources: Resources, revoked: Certificate, found: DerivedObjects) -> None:
    """Add all versions of the voice's files. Once the id is free, only those of the reference."""
    owner, voice_id, reference_id = revoked.owner, revoked.voice_id, revoked.reference_id
    current, _ = await voices.read(resources, owner, voice_id)
    is_marked = current is not None and current.revocation_id == revoked.revocation_id
    folder = layout.voice(owner, voice_id) if is_marked else layout.voice_reference(owner, voice_id, reference_id)
    async for version in resources.voices.list_versions(folder.folder):
        if version.is_latest and version.key == layout.voice(owner, voice_id).metadata:
            found.metadata.append(version)
        elif layout.is_voice_file(version.key, owner, voice_id):
            found.versions.append(version)
    for consent_id in revoked.consent_ids:
        key = layout.voice_of_consent(consent_id, voice_id)
        found.versions += [one async for one in resources.voices.list_versions(key) if one.key == key]


async def _add_job(
    resources: Resources, owner: Owner, job: MarkedJob, found: DerivedObjects, *, is_last: bool
) -> None:
    bucket, job_id = resources.bucket, job.job_id
    # Listed first: a request that is stored meanwhile is left until the next time, which ends its job.
    keys = [item.key async for item in bucket.list(layout.job(job_id))]
    outcome = await _ended(resources, job_id, is_last=is_last)
    is_ended_here = _is_voice_deleted(outcome)
    if outcome is None and not is_last:
        keys = []
    if is_ended_here or (isinstance(outcome, Failed) and not is_last):
        # The worker of a cancelled job may still speak, and must not write another outcome.
        kept = layout.outcome(job_id)
        keys = [key for key in keys if key != kept]
    if is_ended_here:
        if not is_last:
            keys = [key for key in keys if not key.startswith(layout.subscribers(job_id))]
        found.remaining.append(_remaining_outcome(resources, job_id))
    if await bucket.head(layout.preview(job_id)):
        keys.append(layout.preview(job_id))
    for folder in (layout.webhook_attempts(job_id), layout.fingerprint(owner, job_id)):
        keys += [item.key async for item in bucket.list(folder)]
    heads = await asyncio.gather(*map(bucket.head, job.responses))
    found.keys += keys + [head.key for head in heads if head]


async def _ended(resources: Resources, job_id: str, *, is_last: bool) -> Outcome | None:
    """End a job if it is open. Return its outcome, or None if it has no request or could not be ended yet."""
    outcome = await jobs.read_outcome(resources, job_id)
    if outcome is None and (request := await jobs.read_envelope(resources, job_id)):
        try:
            await jobs.write_outcome(resources, jobs.failure(request, voice_deleted(), resources.clock()))
        except StorageFull:
            if is_last:
                raise
            return None  # the deletion that follows makes space
        outcome = await jobs.read_outcome(resources, job_id)
    if outcome is not None and not _is_voice_deleted(outcome):  # it is deleted, perhaps before its event
        await record_use(resources, outcome)
    return outcome


def _is_voice_deleted(outcome: Outcome | None) -> bool:
    return isinstance(outcome, Failed) and outcome.code == VoiceDeleted.code


def voice_deleted() -> VoiceDeleted:
    """Return the error for a job of a voice that was deleted."""
    return VoiceDeleted("The voice was deleted. Its jobs have ended.", field="voice_id")


def _remaining_outcome(resources: Resources, job_id: str) -> RemainingData:
    return RemainingData(
        kind="outcome",
        key=layout.outcome(job_id),
        reason="Informs clients why the job ended. Contains neither text nor audio.",
        expires_at=retention.job_expires_at(job_id, resources.settings),
    )
