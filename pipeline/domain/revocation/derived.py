"""Markers by which the jobs of a voice are found: `acceptance.accept` writes one with each request.

Markers are stored by day, so that the sweep lists only expired ones.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.revocations import Certificate, DerivedJob

READS_AT_ONCE = 32
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class MarkedJob:
    """A job with its marker."""

    job_id: str
    marker_key: str
    responses: tuple[str, ...]


async def mark_response(resources: Resources, reference_id: str, key: str) -> None:
    """Mark a stored response to a request about a reference, before it is stored. It is the key of its record."""
    marker_key = layout.derived_job(reference_id, resources.new_id())
    await resources.bucket.put(marker_key, DerivedJob(responses=(key,)).to_json(), JSON)


async def jobs_of(resources: Resources, revoked: Certificate) -> list[MarkedJob]:
    """Return the jobs that were made from a voice, or from the session that it was saved from."""
    now, oldest = resources.clock(), resources.clock() - max(resources.settings.job_retention, _DAY)
    days = [oldest + number * _DAY for number in range((now - oldest) // _DAY + 2)]
    folders = [layout.derived(day, revoked.reference_id) for day in days]
    keys = [item.key for folder in folders async for item in resources.bucket.list(folder)]
    found: list[MarkedJob] = []
    for start in range(0, len(keys), READS_AT_ONCE):
        some = keys[start : start + READS_AT_ONCE]
        for key, body in zip(some, await asyncio.gather(*map(resources.bucket.get, some)), strict=True):
            record = DerivedJob.parse_stored(body, key=key)
            if record and record.voice_id in {None, revoked.voice_id}:
                found.append(MarkedJob(layout.job_id_of_derived(key), key, record.responses))
    return found


def oldest_day_kept(resources: Resources) -> str:
    """Return the name of the first day of which markers are kept."""
    oldest = resources.clock() - max(resources.settings.job_retention, _DAY)
    return layout.day_in(layout.derived(oldest, ""), layout.DERIVED)
