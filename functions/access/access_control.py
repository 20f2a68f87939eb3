"""Authentication and authorization over HTTP and WebSocket: key, scope, then the owner's quota."""

from collections.abc import Collection

import structlog

from functions.access.failed_keys import FailedKeyThrottle
from pipeline.access import key_format, rate_limits, ws_tickets
from pipeline.access.api_keys import ANONYMOUS, Caller
from pipeline.access.key_lookup import KeyLookup
from pipeline.clients.resources import Resources
from pipeline.contract.records import Scope
from pipeline.errors import Forbidden, NoCredentials, QuotaStatus, Unauthorized

log = structlog.get_logger(__name__)

ORIGIN_REFUSED = "Pages of this origin are not allowed to use the service; add it to CORS_ORIGINS to allow them."


def is_origin_allowed(origin: str | None, host: str | None, allowed: Collection[str]) -> bool:
    """Return whether requests from pages of an origin are allowed; clients other than browsers send no origin.

    Parameters
    ----------
    origin, host
        The values of the `Origin` and `Host` headers.
    allowed
        The allowed origins in the settings.
    """
    if origin is None or origin in allowed:
        return True
    scheme, _, origin_host = origin.partition("://")
    return scheme in {"http", "https"} and origin_host == (host or "").lower() != ""


class AccessControl:
    """Authenticates and authorizes callers.  One per process, as it caches the keys that it reads."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._key_lookup = KeyLookup(resources)
        self._failed = FailedKeyThrottle(resources.clock)

    async def authenticate_key(self, authorization: str | None, address: str) -> Caller:
        """Return the caller that an `Authorization` header authenticates.

        Raises
        ------
        NoCredentials, Unauthorized
            It holds no key, or one that is not valid.
        TooMany
            The key failed too often from this address.
        """
        if not self._resources.settings.wants_keys:
            return ANONYMOUS
        if not authorization or not _is_bearer(authorization):
            raise NoCredentials("This needs a key; send yours as `Authorization: Bearer <key>`.")
        key = authorization.partition(" ")[2].strip()
        key_id = key_format.key_id_of(key)
        try:
            if self._key_lookup.is_cached(key_id):
                return await self._key_lookup.caller(key)
            async with self._failed.look_up(address):
                return await self._key_lookup.caller(key)
        except Unauthorized:
            self._note_failure(address, key_id)
            raise

    async def authenticate_socket(self, authorization: str | None, ticket: str | None, address: str) -> Caller:
        """Return the caller that opens a WebSocket, authenticated by key if the header is set, else by ticket.

        Raises
        ------
        NoCredentials, Unauthorized, TooMany
            As `authenticate_key` and `authenticate_ticket`.
        """
        if ticket is not None and authorization is None:
            return await self.authenticate_ticket(ticket, address)
        return await self.authenticate_key(authorization, address)

    async def authenticate_ticket(self, ticket: str, address: str) -> Caller:
        """Redeem a ticket; return the caller that it was issued to.

        Raises
        ------
        Unauthorized
            It is no ticket, has expired, was used before, or its key is no longer valid.
        TooMany
            The ticket failed too often from this address.
        """
        if not self._resources.settings.wants_keys:
            return ANONYMOUS
        try:
            async with self._failed.look_up(address):
                caller = await ws_tickets.redeem(self._resources, ticket)
            await self._require_valid(caller)
        except Unauthorized:
            self._note_failure(address, ticket.partition(".")[0])
            raise
        return caller

    async def authorize(self, caller: Caller, scope: Scope) -> QuotaStatus | None:
        """Count a request and check its scope; return the status of the owner's quota.

        Raises
        ------
        Forbidden
            The key does not have the scope.
        TooMany
            The owner's quota is used up.
        """
        quota_status = await self.take_request(caller)
        if not caller.may(scope):
            raise Forbidden(f"This needs a key with the scope `{scope}`; yours has {_listed(caller)}.")
        return quota_status

    async def take_request(self, caller: Caller) -> QuotaStatus | None:
        """Count a request; return the status of the owner's quota.

        Raises
        ------
        TooMany
            The quota is used up.
        """
        return await rate_limits.take_request(self._resources, caller.owner)

    async def reauthorize(self, caller: Caller, scope: Scope) -> QuotaStatus | None:
        """Authorize a caller that was authenticated earlier; see `authorize`.

        Raises
        ------
        Unauthorized
            The key has been revoked or has expired since.
        """
        await self._require_valid(caller)
        return await self.authorize(caller, scope)

    async def is_key_still_valid(self, caller: Caller) -> bool:
        """Return whether the caller's key would still be accepted."""
        return caller.key_id is None or await self._key_lookup.is_still_valid(caller.key_id)

    async def _require_valid(self, caller: Caller) -> None:
        if not await self.is_key_still_valid(caller):
            raise Unauthorized("The key is no longer valid.")

    def _note_failure(self, address: str, credential_id: str) -> None:
        self._failed.note(address, credential_id)
        log.warning("authentication failed", address=address)


def _is_bearer(authorization: str) -> bool:
    return authorization.partition(" ")[0].lower() == "bearer"


def _listed(caller: Caller) -> str:
    return ", ".join(f"`{scope}`" for scope in sorted(caller.scopes)) or "none"
