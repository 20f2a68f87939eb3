"""Chains of audit entries: one per owner, of lines of JSON, each with the hash of the line before it.

An object holds the lines that were appended together.  Its key is the number of its first line and it is written if
it does not exist, so of two processes that continue the same line, one succeeds and the other tries again.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import AwareDatetime, Field, ValidationError

from pipeline.access.audit.entries import AuditEntry
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.errors import Unavailable
from pipeline.ids import timestamp_of

JSON_LINES = "application/jsonl"

_BATCH = 500  # entries in an object
_TRIES = 20
_READS_AT_ONCE = 16
_CLOCK_TOLERANCE = timedelta(minutes=1)  # between the clocks of the service and the storage

Sleep = Callable[[float], Awaitable[None]]


class ChainedEntry(AuditEntry):
    """A line of a chain."""

    sequence: int = Field(description="1 for the first entry of an owner")
    previous: str | None = Field(None, description="SHA-256 of the previous line, without its line feed")
    previous_at: AwareDatetime | None = Field(None, description="when the previous line was written")


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it is stored, without its line feed."""

    sequence: int
    body: bytes
    written_at: datetime

    @property
    def digest(self) -> str:
        """The SHA-256 in hex digits."""
        return hashlib.sha256(self.body).hexdigest()

    def entry(self) -> ChainedEntry | None:
        """Return the entry, or None if it can't be parsed."""
        try:
            return ChainedEntry.model_validate_json(self.body)
        except ValidationError:
            return None


@dataclass(frozen=True, slots=True)
class _Object:
    key: str
    first: int
    written_at: datetime


async def chains(resources: Resources) -> list[str]:
    """Return the names of all chains, in order."""
    return sorted([name async for name in resources.audit.list_folders(layout.AUDIT)])


async def lines(resources: Resources, chain: str, *, after: int = 0) -> AsyncGenerator[Line, None]:
    """Yield the stored lines of a chain that follow the entry `after`, in order."""
    waiting: list[_Object] = []
    async for found in _objects_after(resources, chain, after):
        waiting.append(found)
        if len(waiting) == _READS_AT_ONCE:
            for line in await _read_all(resources, waiting):
                if line.sequence > after:
                    yield line
            waiting.clear()
    for line in await _read_all(resources, waiting):
        if line.sequence > after:
            yield line


@dataclass(frozen=True, slots=True)
class Page:
    """One page of entries as lines of JSON. `next_after` is the cursor for the next page."""

    body: bytes
    next_after: str | None


async def page(resources: Resources, names: Sequence[str], *, limit: int, after: str = "") -> Page:
    """Return the entries of some chains, in order.

    Parameters
    ----------
    resources
        The clients.
    names
        The names of the chains, sorted.
    limit
        Maximum number of entries.
    after
        The entry to continue after, as `chain/sequence`.
    """
    first, _, number = after.partition("/")
    found, cursor = list[bytes](), ""
    for name in names:
        if name < first:
            continue
        async with aclosing(lines(resources, name, after=int(number) if name == first else 0)) as some:
            async for line in some:
                if len(found) == limit:
                    return Page(b"".join(found), cursor)
                found.append(line.body + b"\n")
                cursor = f"{name}/{line.sequence}"
    return Page(b"".join(found), None)


async def expire(resources: Resources) -> int:
    """Delete expired entries, for a storage without lifecycle rules. Return the number of objects."""
    expired = list[str]()
    for name in await chains(resources):
        async with aclosing(_objects(resources, layout.audit_entries(name))) as objects:
            async for found in objects:
                if found.written_at + resources.settings.audit_retention > resources.clock():
                    break
                expired.append(found.key)
    await resources.audit.delete(expired)
    return len(expired)


async def append_all_pending(resources: Resources) -> int:
    """Move all recorded entries to their chains. Return their number."""
    names = [name async for name in resources.bucket.list_folders(layout.AUDIT_PENDING)]
    return sum([await append_pending(resources, name) for name in names])


async def append_pending(resources: Resources, chain: str, *, sleep: Sleep = asyncio.sleep) -> int:
    """Move the recorded entries of an owner to the chain, each once. Return their number.

    Raises
    ------
    Unavailable
        The storage does not respond, or concurrent writes kept conflicting. A later call continues.
    """
    keys = [item.key async for item in resources.bucket.list(layout.audit_pending(chain))]
    appended = 0
    for start in range(0, len(keys), _BATCH):
        appended += await _append(resources, chain, keys[start : start + _BATCH], sleep)
    return appended


async def _append(resources: Resources, chain: str, keys: Sequence[str], sleep: Sleep) -> int:
    entries = await _pending(resources, keys)
    if not entries:
        return 0
    oldest = min(timestamp_of(entry.entry_id) for entry in entries.values())
    for tries in range(_TRIES):
        latest, known = await _tail(resources, chain, since=oldest - _CLOCK_TOLERANCE)
        new = [entry for entry in entries.values() if entry.entry_id not in known]
        new.sort(key=lambda entry: entry.at)
        if new:
            key, body = _object(resources, chain, latest, new)
            if await resources.audit.put_once(key, body, JSON_LINES) is None:
                await sleep(random.uniform(0, 0.02 * 2 ** min(tries, 5)))  # noqa: S311
                continue
        await resources.bucket.delete(entries)
        return len(new)
    raise Unavailable("Concurrent writes to the audit log kept conflicting.", retry_after=1)


async def _pending(resources: Resources, keys: Sequence[str]) -> dict[str, AuditEntry]:
    """Return the entries by key. Those that another process has appended meanwhile are missing."""
    entries: dict[str, AuditEntry] = {}
    for start in range(0, len(keys), _READS_AT_ONCE):
        some = keys[start : start + _READS_AT_ONCE]
        for key, body in zip(some, await asyncio.gather(*(resources.bucket.get(key) for key in some)), strict=True):
            if entry := AuditEntry.parse_stored(body, key=key):
                entries[key] = entry
    return entries


def _object(
    resources: Resources, chain: str, latest: Line | None, entries: Sequence[AuditEntry]
) -> tuple[str, bytes]:
    """Return the key and the body of the object that continues a chain."""
    first, added = latest.sequence + 1 if latest else 1, list[bytes]()
    for entry in entries:
        chained = ChainedEntry(
            **dict(entry),
            sequence=latest.sequence + 1 if latest else 1,
            previous=latest.digest if latest else None,
            previous_at=latest.written_at if latest else None,
        )
        latest = Line(chained.sequence, chained.to_json(), resources.clock())
        added.append(latest.body + b"\n")
    return layout.audit_object(chain, first), b"".join(added)


async def _tail(resources: Resources, chain: str, *, since: datetime) -> tuple[Line | None, set[str]]:
    """Return the last line of a chain, and the ids of the entries that were appended since this time."""
    latest: Line | None = None
    known = set[str]()
    async with aclosing(_objects_backwards(resources, chain)) as objects:
        async for found in objects:
            if latest is not None and found.written_at < since:
                break
            appended = await _read(resources, found)
            latest = latest or (appended[-1] if appended else None)
            known |= {entry.entry_id for line in appended if (entry := line.entry())}
    return latest, known


async def _objects_backwards(resources: Resources, chain: str) -> AsyncGenerator[_Object, None]:
    folder = layout.audit_entries(chain)
    parts = [name async for name in resources.audit.list_folders(folder)]
    for part in reversed(parts):
        for found in reversed([item async for item in _objects(resources, f"{folder}{part}/")]):
            yield found


async def _objects_after(resources: Resources, chain: str, after: int) -> AsyncGenerator[_Object, None]:
    """Yield the objects of a chain, from the one with the entry that follows `after`."""
    start = layout.audit_object(chain, max(0, after - _BATCH))
    held: _Object | None = None
    async for found in _objects(resources, layout.audit_entries(chain), start_after=start):
        if held is not None and found.first > after + 1:
            yield held
        held = found
    if held is not None:
        yield held


async def _objects(resources: Resources, prefix: str, *, start_after: str = "") -> AsyncGenerator[_Object, None]:
    async for item in resources.audit.list(prefix, start_after=start_after):
        if first := layout.audit_sequence_in(item.key):
            yield _Object(item.key, first, item.last_modified)


async def _read_all(resources: Resources, objects: Sequence[_Object]) -> list[Line]:
    parts = await asyncio.gather(*(_read(resources, found) for found in objects))
    return [line for part in parts for line in part]


async def _read(resources: Resources, found: _Object) -> list[Line]:
    body = await resources.audit.get(found.key)
    if not body:
        return []
    bodies = body.removesuffix(b"\n").split(b"\n")
    return [Line(found.first + index, line, found.written_at) for index, line in enumerate(bodies)]
