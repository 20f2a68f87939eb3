"""Single-use tickets, valid for a minute, for a page, which can't send a key with the WebSocket handshake.

A ticket is `<ticket_id>.<secret>`.  Its id holds its time of issue, so most expired ones need no look-up.  Whether
the key that it was issued for is still valid is checked by the caller of `redeem`.
"""

import base64
import re
import secrets
from datetime import datetime
from typing import Self

from pydantic import AwareDatetime, model_validator

from pipeline.access.api_keys import Caller
from pipeline.access.key_format import RandomBytes, digest_matches, digest_of
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout, retention
from pipeline.contract.records import Record, Scope
from pipeline.errors import Unauthorized
from pipeline.ids import is_id

_SECRET_BYTES = 32
_TICKET = re.compile(r"(?P<ticket_id>[0-9a-f]{32})\.(?P<secret>[A-Za-z0-9_-]{43})")


class TicketRecord(Record):
    """`tickets/<ticket_id>.json`: the caller that a ticket was issued to, and which redemption used it."""

    digest: str
    owner: str | None = None
    key_id: str | None = None
    scopes: tuple[Scope, ...]
    used_at: AwareDatetime | None = None
    used_by: str | None = None

    @model_validator(mode="after")
    def _owner_has_key(self) -> Self:
        if (self.owner is None) != (self.key_id is None):
            raise ValueError("a ticket has both an owner and a key, or neither")
        return self

    @property
    def caller(self) -> Caller:
        """The caller that the ticket was issued to."""
        return Caller(self.owner, self.key_id, frozenset(self.scopes))


async def issue(
    resources: Resources, caller: Caller, random: RandomBytes = secrets.token_bytes
) -> tuple[str, datetime]:
    """Issue a ticket to a caller. Return its text and expiry.

    Raises
    ------
    Unavailable
        The storage does not respond.
    """
    ticket_id = resources.new_id()
    secret = base64.urlsafe_b64encode(random(_SECRET_BYTES)).rstrip(b"=").decode()
    record = TicketRecord(
        digest=digest_of(secret),
        owner=caller.owner,
        key_id=caller.key_id,
        scopes=tuple(sorted(caller.scopes)),
    )
    await resources.bucket.put(layout.ticket(ticket_id), record.to_json(), JSON)
    return f"{ticket_id}.{secret}", retention.ticket_expires_at(ticket_id)


async def redeem(resources: Resources, text: str) -> Caller:
    """Redeem a ticket. Return the caller that it was issued to.

    Of all attempts with the same ticket, concurrent or later, one succeeds.

    Raises
    ------
    Unauthorized
        It can't be used. The reason is not disclosed.
    Unavailable
        The storage does not respond.
    """
    match = _TICKET.fullmatch(text)
    if match is None or not is_id(match["ticket_id"]):
        raise _refused()
    ticket_id = match["ticket_id"]
    if retention.ticket_expires_at(ticket_id) <= resources.clock():
        raise _refused()
    stored = await resources.bucket.read(layout.ticket(ticket_id))
    record = TicketRecord.parse_stored(stored.body) if stored else None
    right = digest_matches(digest_of(match["secret"]), record.digest if record else None)
    if stored is None or record is None or not right or not _serves(record, resources):
        raise _refused()
    if not await _use(resources, ticket_id, record, stored.etag):
        raise _refused()
    return record.caller


def _serves(record: TicketRecord, resources: Resources) -> bool:
    # A ticket without a key was issued while authentication was off.
    left_over = record.key_id is None and resources.settings.wants_keys
    return record.used_at is None and not left_over


async def _use(resources: Resources, ticket_id: str, record: TicketRecord, etag: str) -> bool:
    """Mark a ticket as used. Return whether this call did so."""
    key = layout.ticket(ticket_id)
    used = record.model_copy(update={"used_at": resources.clock(), "used_by": resources.new_id()}).to_json()
    if await resources.bucket.replace(key, used, JSON, etag=etag) is not None:
        return True
    # The write may have succeeded and its response been lost, so that the retry was refused.
    return await resources.bucket.get(key) == used


def _refused() -> Unauthorized:
    seconds = int(retention.TICKET_LIFETIME.total_seconds())
    return Unauthorized(
        f"This ticket can't be used. A ticket opens one socket within {seconds} seconds. Get another ticket."
    )
