"""The fingerprints of previews in the storage, which find the job of audio without a manifest.

They are the names of empty objects, in a folder for each day and owner. One list request returns those of 1,000
previews, and no object is read.
"""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.ids import Owner

# numpy is imported where it is used: the sweep and most requests do without.
if TYPE_CHECKING:
    from pipeline.audio.reference_audio import Recording
    from pipeline.marking.fingerprint import Words

_PART_FRAMES = 90  # 240 characters: file systems limit a name to 255
_NAME = "{number:03d}-{data}"
# Objects that a search lists. They describe up to 14 s of audio each.
LISTED_MAX = 50_000


async def store(resources: Resources, owner: Owner, job_id: str, recording: "Recording") -> None:
    """Store the fingerprint of a preview.

    Raises
    ------
    Unavailable
        The storage does not respond.
    """
    from pipeline.marking.fingerprint import fingerprint

    words = await asyncio.to_thread(fingerprint, recording.samples, recording.sample_rate)
    folder = layout.fingerprint(owner, job_id)
    parts = (words[start : start + _PART_FRAMES] for start in range(0, len(words), _PART_FRAMES))
    names = (_NAME.format(number=number, data=_encoded(part)) for number, part in enumerate(parts))
    await asyncio.gather(*(resources.bucket.put(folder + name, b"", "text/plain") for name in names))


async def find_job(resources: Resources, owner: Owner, excerpts: Sequence["Words"]) -> str | None:
    """Return the job of an owner whose preview contains an excerpt, or None if there is none.

    The latest days are searched first, up to `LISTED_MAX` objects.

    Raises
    ------
    Unavailable
        The storage does not respond.
    """
    if not excerpts:
        return None
    listed = 0
    async for keys in _days(resources, owner):
        listed += len(keys)
        if job_id := await asyncio.to_thread(_matching, keys, excerpts):
            return job_id
        if listed >= LISTED_MAX:
            return None
    return None


async def expired(resources: Resources) -> AsyncIterator[str]:
    """Yield the keys of the fingerprints whose jobs have expired, in whole days."""
    oldest_kept = f"{resources.clock() - resources.settings.job_retention:%Y-%m-%d}"
    async for item in resources.bucket.list(layout.FINGERPRINTS):
        if layout.day_in(item.key, layout.FINGERPRINTS) >= oldest_kept:
            break
        yield item.key


async def _days(resources: Resources, owner: Owner) -> AsyncIterator[list[str]]:
    """Yield the keys of an owner's fingerprints, by day."""
    now, retention = resources.clock(), resources.settings.job_retention
    for days in range(retention.days + 2):
        folder = layout.fingerprints_of(owner, now - timedelta(days=days))
        keys = list[str]()
        async for item in resources.bucket.list(folder):
            keys.append(item.key.removeprefix(folder))
            if len(keys) == LISTED_MAX:
                break
        yield keys


def _matching(keys: Sequence[str], excerpts: Sequence["Words"]) -> str | None:
    """Return the job whose fingerprint is most similar. One search covers all jobs."""
    import numpy as np

    from pipeline.marking.fingerprint import find

    parts = defaultdict[str, list["Words"]](list)
    for key in keys:
        job_id, _, name = key.partition("/")
        parts[job_id].append(_decoded(name.partition("-")[2]))
    if not parts:
        return None
    jobs = list(parts)
    lengths = [sum(map(len, parts[job_id])) for job_id in jobs]
    match = find(list(excerpts), np.concatenate([part for job_id in jobs for part in parts[job_id]]))
    return jobs[int(np.searchsorted(np.cumsum(lengths), match.frame, side="right"))] if match else None


def _encoded(words: "Words") -> str:
    return urlsafe_b64encode(words.tobytes()).decode()


def _decoded(text: str) -> "Words":
    import numpy as np

    return np.frombuffer(urlsafe_b64decode(text), "<u2")
