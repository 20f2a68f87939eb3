"""Stored records of revocations: certificates, and markers of the jobs that were made from a voice."""

from pydantic import AwareDatetime, Field

from pipeline.contract.records import Record, RevocationReason, UtcSeconds


class DerivedJob(Record):
    """`derived/<day>/<reference_id>/<job_id>.json`: a job, or a stored response, that a reference was used for."""

    voice_id: str | None = Field(None, description="the saved voice, or None for the session of the reference")
    responses: tuple[str, ...] = Field((), description="keys of the idempotency records of its request")


class RemovedObject(Record):
    """An object that a revocation removes, with all its versions."""

    kind: str
    key: str
    versions: int = 1
    removed_at: UtcSeconds | None = Field(None, description="None until the removal is confirmed")


class RemainingData(Record):
    """Data about a voice that a revocation does not remove."""

    kind: str
    key: str | None = None
    reason: str
    expires_at: UtcSeconds | None = Field(None, description="when it is deleted, if it is")


class Certificate(Record):
    """`revocations/<revocation_id>.json`: the removal of a voice. Complete when `completed_at` is set."""

    revocation_id: str
    voice_id: str
    owner: str | None = None
    reference_id: str
    consent_ids: tuple[str, ...] = ()
    reason: RevocationReason
    requested_at: AwareDatetime
    completed_at: UtcSeconds | None = None
    folders: tuple[str, ...] = Field(description="folders of the reference: a worker stops the jobs that use them")
    removed: tuple[RemovedObject, ...] = ()
    remaining: tuple[RemainingData, ...] = ()
