"""Entries of the audit log, and their recording.

Each is recorded as an object in `audit-pending/`.  `chain.append_pending` moves it to the chain of its owner.  So
recording is one write without contention, and an entry survives a crash at any point.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import Outcome, Record, Succeeded
from pipeline.ids import Owner
from pipeline.telemetry.logs import current_key_id

Action = Literal["saved", "used", "exported", "imported", "consent_given", "revoked", "deleted", "verified"]


class AuditEntry(Record):
    """One action. It contains neither text nor audio."""

    entry_id: str = Field(description="id of the job or change; its first digits are the time")
    at: AwareDatetime
    owner: str | None = None
    key_id: str | None = Field(None, description="API key of the caller; none without authentication")
    action: Action
    voice_id: str | None = None
    session_id: str | None = Field(None, description="upload, if no saved voice was used")
    job_id: str | None = None
    result: str | None = Field(None, description="`succeeded`, or the error code of a job")
    hashes: dict[str, str] = Field(default_factory=dict, description="SHA-256 by name, such as `recording`")


async def record(
    resources: Resources,
    owner: Owner,
    action: Action,
    voice_id: str | None,
    *,
    key_id: str | None = None,
    entry_id: str | None = None,
    at: datetime | None = None,
    session_id: str | None = None,
    job_id: str | None = None,
    result: str | None = None,
    hashes: Mapping[str, str] | None = None,
) -> None:
    """Record an action. The entry is durable when this returns, and in the chain within a minute.

    Parameters
    ----------
    resources
        The clients.
    owner, action, voice_id
        The action.
    key_id
        The caller's API key. Default: that of the current request.
    entry_id
        A text that begins with an id of `Resources.new_id` from before the first call. A repeated call with it adds
        no second entry.
    at
        Time of the action. Default: now.
    session_id, job_id, result
        See `AuditEntry`.
    hashes
        SHA-256 by name, see `sha256`.

    Raises
    ------
    Unavailable
        The storage does not respond.
    """
    if not resources.settings.audit_retention_days:
        return
    entry = AuditEntry(
        entry_id=entry_id or resources.new_id(),
        at=at or resources.clock(),
        owner=owner,
        key_id=key_id or current_key_id(),
        action=action,
        voice_id=voice_id,
        session_id=session_id,
        job_id=job_id,
        result=result,
        hashes=dict(hashes or {}),
    )
    key = layout.audit_pending(layout.audit_chain(owner), entry.entry_id)
    await resources.bucket.put(key, entry.to_json(), JSON)


async def record_use(resources: Resources, outcome: Outcome) -> None:
    """Record the use of a voice by a job that has ended.

    Raises
    ------
    Unavailable
        The storage does not respond.
    """
    if outcome.kind != "preview":
        return
    if isinstance(outcome, Succeeded):
        result, digest = "succeeded", outcome.audio_sha256
    else:
        result, digest = outcome.code, None
    await record(
        resources,
        outcome.source.owner,
        "used",
        outcome.source.voice_id,
        key_id=outcome.key_id,
        entry_id=outcome.job_id,
        at=outcome.completed_at,
        session_id=outcome.source.session_id,
        job_id=outcome.job_id,
        result=result,
        hashes={"audio": digest} if digest else None,
    )


def sha256(data: bytes) -> str:
    """Return the hash of a file for an entry."""
    return hashlib.sha256(data).hexdigest()
