"""Checks that a chain of audit entries is complete and unchanged.

A chain shows gaps, and changes of all entries but the last.  Whether the last entries were removed or changed shows
only in comparison with the `Head` that an earlier verification returned.
"""

from pydantic import AwareDatetime

from pipeline.access.audit.chain import Line, lines
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import Record


class Head(Record):
    """The last entry of a chain that was verified."""

    chain: str
    sequence: int
    sha256: str
    written_at: AwareDatetime


class BrokenChain(Exception):
    """An entry does not follow from the entry before it."""

    def __init__(self, chain: str, sequence: int, reason: str) -> None:
        super().__init__(f"Chain {chain}, entry {sequence}: {reason}.")


async def verify(resources: Resources, chain: str, known: Head | None = None) -> Head | None:
    """Verify a chain. Return its head, or None if it has no entries.

    Parameters
    ----------
    resources
        The clients.
    chain
        The name of the chain.
    known
        The head that an earlier verification returned.

    Raises
    ------
    BrokenChain
        At the first entry that is changed, missing or at another place.
    Unavailable
        The storage does not respond.
    """
    latest: Line | None = None
    if known is not None and known.written_at + resources.settings.audit_retention <= resources.clock():
        known = None  # it may have expired
    async for line in lines(resources, chain):
        if reason := _fault(resources, chain, latest, line):
            raise BrokenChain(chain, line.sequence, reason)
        if known is not None and line.sequence == known.sequence and line.digest != known.sha256:
            raise BrokenChain(chain, line.sequence, "it has changed since it was verified")
        latest = line
    if known is not None and (latest is None or latest.sequence < known.sequence):
        raise BrokenChain(
            chain, latest.sequence + 1 if latest else 1, f"entries up to {known.sequence} are missing"
        )
    if latest is None:
        return None
    return Head(chain=chain, sequence=latest.sequence, sha256=latest.digest, written_at=latest.written_at)


def _fault(resources: Resources, chain: str, latest: Line | None, line: Line) -> str | None:
    entry = line.entry()
    if entry is None:
        return "it can't be parsed"
    if entry.sequence != line.sequence or layout.audit_chain(entry.owner) != chain:
        return f"it is entry {entry.sequence} of {layout.audit_chain(entry.owner)}"
    if latest is not None:
        if line.sequence != latest.sequence + 1:
            return f"it follows entry {latest.sequence}"
        return None if entry.previous == latest.digest else "the entry before it has changed"
    if entry.previous_at is not None:
        is_expired = entry.previous_at + resources.settings.audit_retention <= resources.clock()
        return None if is_expired else "the entries before it are missing and have not expired"
    return None if line.sequence == 1 else "the entries before it are missing"
