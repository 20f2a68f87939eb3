"""Idempotency keys: the first request with a key is executed, and the others get its response.

A request claims its key by a conditional put before it makes anything, for as long as it may take. Its response is
then stored in the claim.  If its process dies, the next request with the key takes the claim over when that time
has passed, and finds the job in it that may have been made.

Claims are stored by day, so that the sweep lists only expired claims.  A claim is put before the folders of the
neighbouring days are read: of two concurrent requests around midnight, at least one finds the other.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

import structlog
from pydantic import AwareDatetime

from pipeline.access.rate_limits import CLOCK_SKEW
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON, StoredObject
from pipeline.contract import layout, retention
from pipeline.contract.records import Record
from pipeline.errors import IdempotencyKeyReused, RequestInProgress, Unavailable
from pipeline.ids import Owner

log = structlog.get_logger(__name__)

REPEAT_WINDOW = timedelta(minutes=1)
_RETRY_SECONDS = 2
_DAY = timedelta(days=1)


class StoredAnswer(Record):
    """A response without audio, small enough to be stored: that of a preview is read from its job instead."""

    status: int
    headers: Mapping[str, str]
    body: str


class ClaimRecord(Record):
    """`idempotency/<day>/<digest of owner and key>.json`: one use of a key.

    `answer` or `job_id` is the answer once `is_done`. A `job_id` before that may not have been accepted.
    """

    token: str
    fingerprint: str
    created_at: AwareDatetime
    held_until: AwareDatetime
    job_id: str | None = None
    answer: StoredAnswer | None = None
    is_done: bool = False


@dataclass(slots=True)
class Claim:
    """A claim that this request holds: it may make something, and then has to finish or release the claim."""

    resources: Resources
    key: str
    record: ClaimRecord
    etag: str
    is_taken_over: bool = False
    """Whether an earlier request held it, which may have succeeded before its process died."""

    async def name_job(self, job_id: str) -> None:
        """Store the id of a job before it is accepted.

        Raises
        ------
        RequestInProgress
            The claim was taken over by another request.
        """
        if not await self._write({"job_id": job_id}):
            raise _in_progress()

    async def finish(self, answer: StoredAnswer | None) -> None:
        """Store the answer, or None if it is the job's.  If that fails, a later request is executed again."""
        try:
            stored = await self._write({"answer": answer, "is_done": True})
        except Unavailable as error:
            log.warning("answer not stored with its idempotency key", reason=error.message)
        else:
            if not stored:
                log.warning("idempotency key was taken over before its answer was stored")

    async def release(self) -> None:
        """Delete the claim of a request that made nothing, so that it can be sent again, corrected or not."""
        if self.record.held_until <= self.resources.clock():
            return  # it may be another request's by now
        try:
            await self.resources.bucket.delete([self.key])
        except Unavailable as error:
            log.warning("idempotency key not released", reason=error.message)

    async def end_lease(self) -> None:
        """Let the next request with the key take the claim over now, with the job that it names.

        Raises
        ------
        Unavailable
            The storage does not respond.
        """
        await self._write({"held_until": self.resources.clock()})

    async def _write(self, changes: Mapping[str, object]) -> bool:
        changed = self.record.model_copy(update=changes)
        etag = await _replace(self.resources, self.key, changed, self.etag)
        if etag is not None:
            self.record, self.etag = changed, etag
        return etag is not None


@dataclass(frozen=True, slots=True)
class _Found:
    """The stored claim of a key."""

    key: str
    stored: StoredObject
    record: ClaimRecord

    @classmethod
    async def read(cls, resources: Resources, key: str) -> Self | None:
        """Return the claim under a storage key, unless there is none or it has expired."""
        stored = await resources.bucket.read(key)
        record = ClaimRecord.parse_stored(stored.body) if stored else None
        if stored is None or record is None or _has_expired(record, resources):
            return None
        return cls(key, stored, record)


async def claim(
    resources: Resources, owner: Owner, idempotency_key: str, fingerprint: str, *, lease: timedelta
) -> Claim | ClaimRecord:
    """Claim a key for a request. Return the claim, or the finished record of an earlier request.

    Parameters
    ----------
    resources, owner, idempotency_key
        The key is the owner's own.
    fingerprint
        Is equal for equal requests.
    lease
        How long the request may take.

    Raises
    ------
    IdempotencyKeyReused
        The key was used for another request.
    RequestInProgress
        The same request is being handled now.
    """
    now = resources.clock()
    new = ClaimRecord(token=resources.new_id(), fingerprint=fingerprint, created_at=now, held_until=now + lease)
    digest = _digest(owner, "key", idempotency_key)
    key = layout.idempotency(now, digest)
    etag = await _put(resources, key, new)
    found = await _in_other_days(resources, now, digest)
    if found is not None:
        if etag is not None:
            await resources.bucket.delete([key])
        return await _repeated(resources, found, new)
    if etag is not None:
        return Claim(resources, key, new, etag)
    found = await _Found.read(resources, key)
    if found is None:  # just released, or damaged
        raise _in_progress()
    return await _repeated(resources, found, new)


async def recent_job(resources: Resources, owner: Owner, fingerprint: str) -> str | None:
    """Return the job of the same request without a key, if it was made within the last minute."""
    now = resources.clock()
    digest = _digest(owner, "repeat", fingerprint)
    for day in (now, now - REPEAT_WINDOW):
        found = await _Found.read(resources, layout.idempotency(day, digest))
        if found and found.record.created_at + REPEAT_WINDOW > now:
            return found.record.job_id
    return None


def key_of_repeats(resources: Resources, owner: Owner, fingerprint: str) -> str:
    """Return the key of the record of `remember_job`."""
    return layout.idempotency(resources.clock(), _digest(owner, "repeat", fingerprint))


async def remember_job(resources: Resources, owner: Owner, fingerprint: str, job_id: str) -> None:
    """Remember the accepted job of a request without a key, for `recent_job`."""
    now = resources.clock()
    record = ClaimRecord(
        token=job_id, fingerprint=fingerprint, created_at=now, held_until=now, job_id=job_id, is_done=True
    )
    await resources.bucket.put(key_of_repeats(resources, owner, fingerprint), record.to_json(), JSON)


async def _put(resources: Resources, key: str, record: ClaimRecord) -> str | None:
    etag = await resources.bucket.put_once(key, record.to_json(), JSON)
    return etag if etag is not None else await _etag_if_stored(resources, key, record)


async def _replace(resources: Resources, key: str, record: ClaimRecord, etag: str) -> str | None:
    replaced = await resources.bucket.replace(key, record.to_json(), JSON, etag=etag)
    return replaced if replaced is not None else await _etag_if_stored(resources, key, record)


async def _etag_if_stored(resources: Resources, key: str, record: ClaimRecord) -> str | None:
    """Return the ETag if the write succeeded, but its response was lost and the retry refused."""
    stored = await resources.bucket.read(key)
    return stored.etag if stored and stored.body == record.to_json() else None


async def _in_other_days(resources: Resources, now: datetime, digest: str) -> _Found | None:
    """Return the key's claim of yesterday or, written by a process with a faster clock, of tomorrow."""
    today = layout.idempotency(now, digest)
    for day in (now - _DAY, now + CLOCK_SKEW):
        key = layout.idempotency(day, digest)
        if key != today and (found := await _Found.read(resources, key)):
            return found
    return None


async def _repeated(resources: Resources, found: _Found, new: ClaimRecord) -> Claim | ClaimRecord:
    """Return the answer of an earlier request, or take over its claim if it has died."""
    if found.record.fingerprint != new.fingerprint:
        raise IdempotencyKeyReused(
            "This Idempotency-Key was used for another request within the last day. Use a new one.",
            field="Idempotency-Key",
        )
    if found.record.is_done:
        return found.record
    if found.record.held_until > resources.clock():
        raise _in_progress()
    taken = new.model_copy(update={"job_id": found.record.job_id, "created_at": found.record.created_at})
    etag = await _replace(resources, found.key, taken, found.stored.etag)
    if etag is None:
        raise _in_progress()
    return Claim(resources, found.key, taken, etag, is_taken_over=True)


def _has_expired(record: ClaimRecord, resources: Resources) -> bool:
    return retention.idempotency_expires_at(record.created_at) <= resources.clock()


def _digest(owner: Owner, kind: str, text: str) -> str:
    return hashlib.sha256(f"{owner or ''} {kind} {text}".encode()).hexdigest()


def _in_progress() -> RequestInProgress:
    return RequestInProgress(
        "The first request with this Idempotency-Key is still being handled. Send it again shortly.",
        field="Idempotency-Key",
        retry_after=_RETRY_SECONDS,
    )
