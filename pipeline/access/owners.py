"""Ownership of voices, sessions and jobs.

Only the owner can access the objects that were created with the owner's keys.  An owner's voices are in one folder.
The ids of sessions and jobs identify their owner: their last 40 bits are a digest of the owner's name and of the
rest of the id.  So another owner's id is recognised without a request to the storage, and its response takes the
same time as that of an unknown id.  If authentication is off, there is one owner, None, of all objects.
"""

import hashlib
import re

from pipeline.errors import InvalidInput
from pipeline.ids import NewId, Owner

OWNER_MAX = 40
_OWNER = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_DIGEST_BYTES = 5
_DIGITS = 2 * _DIGEST_BYTES  # of the 32 digits of an id, which leave 34 random bits after the time


def is_owner(name: str) -> bool:
    """Return whether a name is valid for an owner."""
    return len(name) <= OWNER_MAX and _OWNER.fullmatch(name) is not None


def check_owner(name: str) -> str:
    """Return an owner's name if it is valid.

    Raises
    ------
    InvalidInput
        It can't be used in a storage key.
    """
    if not is_owner(name):
        raise InvalidInput(
            f"owner should be 1 to {OWNER_MAX} lower-case letters, digits and single hyphens, such as `alice`.",
            field="owner",
        )
    return name


def new_id(make: NewId, owner: Owner) -> str:
    """Return a new id of a session or job of an owner (still a UUIDv7: RFC 9562 does not define these bits)."""
    id_ = make()
    return id_ if owner is None else id_[:-_DIGITS] + _digest(id_, owner)


def owns(owner: Owner, id_: str) -> bool:
    """Return whether the session or job of this id is, or could be, the owner's."""
    return owner is None or id_[-_DIGITS:] == _digest(id_, owner)


def _digest(id_: str, owner: str) -> str:
    return hashlib.blake2b(f"{id_[:-_DIGITS]} {owner}".encode(), digest_size=_DIGEST_BYTES).hexdigest()
