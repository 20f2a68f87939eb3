"""API keys: their records, and the operations of an administrator: create, revoke, expire and list."""

import asyncio
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

from pydantic import AwareDatetime, field_validator

from pipeline.access.key_format import (
    ID_LENGTH,
    PREFIX,
    RandomBytes,
    digest_of,
    is_key_id,
    key_text,
    random_id,
    random_secret,
)
from pipeline.access.owners import check_owner, is_owner
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import Record, Scope
from pipeline.errors import InvalidInput, NotFound, Unavailable
from pipeline.ids import Owner

SCOPES: tuple[Scope, ...] = get_args(Scope)
NAME_MAX = 80

_CHANGES_TRIED = 10
_READS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated caller and its scopes. The owner None owns everything."""

    owner: Owner
    key_id: str | None
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Return whether the caller has this scope. `admin` includes all others."""
        return scope in self.scopes or "admin" in self.scopes


# Every caller, if authentication is off.
ANONYMOUS = Caller(owner=None, key_id=None, scopes=frozenset(SCOPES))


class KeyRecord(Record):
    """`keys/<key_id>/key.json`: all data of a key except its secret."""

    key_id: str
    digest: str
    name: str
    owner: str
    scopes: tuple[Scope, ...]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None

    @field_validator("owner")
    @classmethod
    def _can_own(cls, value: str) -> str:
        if not is_owner(value):
            raise ValueError("is no owner's name")
        return value

    def is_expired(self, now: datetime) -> bool:
        """Return whether the key has expired."""
        return self.expires_at is not None and self.expires_at <= now

    def is_valid(self, now: datetime) -> bool:
        """Return whether the key is neither revoked nor expired."""
        return self.revoked_at is None and not self.is_expired(now)

    @property
    def caller(self) -> Caller:
        """The caller that this key authenticates."""
        return Caller(self.owner, self.key_id, frozenset(self.scopes))


class KeyUse(Record):
    """`keys/<key_id>/last-use.json`."""

    used_at: AwareDatetime


@dataclass(frozen=True, slots=True)
class Listed:
    """A key as it is listed for an administrator."""

    record: KeyRecord
    used_at: datetime | None


async def make(
    resources: Resources,
    *,
    owner: str,
    name: str,
    scopes: Collection[str],
    expires_at: datetime | None,
    random: RandomBytes = secrets.token_bytes,
) -> tuple[str, KeyRecord]:
    """Create a key. Return its text, which can't be shown again, and its record.

    Raises
    ------
    InvalidInput
        The owner, name, scopes or expiry is not valid.
    Unavailable
        The storage does not respond.
    """
    now = resources.clock()
    if expires_at is not None and _aware(expires_at) <= now:
        raise InvalidInput("expires_at is in the past. It should be in the future.", field="expires_at")
    key_id, secret = random_id(random), random_secret(random)
    record = KeyRecord(
        key_id=key_id,
        digest=digest_of(secret),
        name=_check_name(name),
        owner=check_owner(owner),
        scopes=_check_scopes(scopes),
        created_at=now,
        expires_at=expires_at,
    )
    if await resources.voices.put_once(layout.key(key_id), record.to_json(), JSON) is None:
        await _check_stored(resources, record)
    return key_text(key_id, secret), record


async def revoke(resources: Resources, key_id: str) -> KeyRecord:
    """Revoke a key permanently. A key that is already revoked is not changed.

    Raises
    ------
    InvalidInput, NotFound
        There is no such key.
    Unavailable
        The storage does not respond.
    """

    def revoked(record: KeyRecord) -> KeyRecord:
        return record if record.revoked_at else record.model_copy(update={"revoked_at": resources.clock()})

    return await _change(resources, key_id, revoked)


async def expire(resources: Resources, key_id: str, moment: datetime) -> KeyRecord:
    """Set when a key expires, sooner or later than before.

    Raises
    ------
    InvalidInput, NotFound
        There is no such key, it is revoked, or the moment has no time zone.
    Unavailable
        The storage does not respond.
    """
    moment = _aware(moment)

    def expiring(record: KeyRecord) -> KeyRecord:
        if record.revoked_at:
            raise InvalidInput(f"Key {key_id} is revoked permanently. Create another key.", field="key_id")
        return record.model_copy(update={"expires_at": moment})

    return await _change(resources, key_id, expiring)


async def list_keys(resources: Resources, owner: Owner = None) -> list[Listed]:
    """Return the keys of an owner, or of all, oldest first."""
    ids = [key_id async for key_id in resources.voices.list_folders(layout.KEYS) if is_key_id(key_id)]
    found: list[Listed] = []
    for start in range(0, len(ids), _READS_AT_ONCE):
        some = await asyncio.gather(*(_listed(resources, key_id) for key_id in ids[start : start + _READS_AT_ONCE]))
        found += [one for one in some if one is not None and owner in (None, one.record.owner)]
    return sorted(found, key=lambda one: (one.record.created_at, one.record.key_id))


async def read(resources: Resources, key_id: str) -> KeyRecord | None:
    """Return a key's record, or None if it does not exist or can't be parsed."""
    body = await resources.voices.get(layout.key(key_id))
    return _parsed(key_id, body)


async def record_use(resources: Resources, key_id: str) -> None:
    """Record that a key was used now."""
    use = KeyUse(used_at=resources.clock())
    await resources.voices.put(layout.key_use(key_id), use.to_json(), JSON)


async def _listed(resources: Resources, key_id: str) -> Listed | None:
    record, use = await asyncio.gather(read(resources, key_id), resources.voices.get(layout.key_use(key_id)))
    if record is None:
        return None
    last_use = KeyUse.parse_stored(use, key_id=key_id)
    return Listed(record, last_use.used_at if last_use else None)


def _parsed(key_id: str, body: bytes | None) -> KeyRecord | None:
    record = KeyRecord.parse_stored(body, key_id=key_id)
    # A copy in another folder would outlive the revocation of the first.
    return record if record and record.key_id == key_id else None


async def _change(resources: Resources, key_id: str, changed: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
    """Change a key's record by compare-and-swap."""
    if not is_key_id(key_id):
        # Not repeated in the message: it may be a complete key, pasted by mistake.
        raise InvalidInput(
            f"key_id should be the {ID_LENGTH} characters that follow `{PREFIX}` in a key.", field="key_id"
        )
    for _ in range(_CHANGES_TRIED):
        stored = await resources.voices.read(layout.key(key_id))
        before = None if stored is None else _parsed(key_id, stored.body)
        if stored is None or before is None:
            raise NotFound(f"There is no key {key_id}.", field="key_id")
        after = changed(before)
        if after == before or await resources.voices.replace(
            layout.key(key_id), after.to_json(), JSON, etag=stored.etag
        ):
            return after
    raise Unavailable(f"Concurrent writes to key {key_id} kept conflicting. Try again.")


async def _check_stored(resources: Resources, record: KeyRecord) -> None:
    """Distinguish a write that succeeded although its response was lost from an id that is taken.

    Raises
    ------
    Unavailable
        The id is taken.
    """
    if await read(resources, record.key_id) != record:
        raise Unavailable("The id of the new key is taken. Try again.")


def _check_name(name: str) -> str:
    if len(name) > NAME_MAX or not name.isprintable():
        raise InvalidInput(f"name should have at most {NAME_MAX} printable characters.", field="name")
    return name


def _check_scopes(scopes: Collection[str]) -> tuple[Scope, ...]:
    if not scopes or not set(scopes) <= set(SCOPES):
        raise InvalidInput(f"scopes should be some of {', '.join(SCOPES)}.", field="scopes")
    return tuple(scope for scope in SCOPES if scope in scopes)


def _aware(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise InvalidInput(
            "expires_at should name its time zone, such as 2030-01-01T00:00:00Z.", field="expires_at"
        )
    return moment.astimezone(UTC)
