"""Who comes in, over HTTP and WebSocket alike: the key is looked at, then the scope, then the owner's share."""

import structlog

from functions.access.throttle import FailedKeyThrottle
from pipeline.access import ws_tickets
from pipeline.access.api_keys import ANONYMOUS, Caller
from pipeline.access.key_lookup import KeyLookup
from pipeline.access.quotas import Quotas
from pipeline.clients.resources import Resources
from pipeline.contract.records import Scope
from pipeline.errors import Forbidden, NoCredentials, QuotaStatus, Unauthorized

log = structlog.get_logger(__name__)


class AccessControl:
    """Lets callers in.  One serves a whole process: what it knows of keys and shares is kept a while."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._key_lookup = KeyLookup(resources)
        self._quotas = Quotas(resources, resources.clock)
        self._failed = FailedKeyThrottle(resources.clock)

    async def authenticate_key(self, authorization: str | None, address: str) -> Caller:
        """Tell who shows this `Authorization` header.

        Raises
        ------
        NoCredentials, Unauthorized
            It holds no key, or none that is good now.
        TooMany
            Too many from this address did not.
        """
        if not self._resources.settings.wants_keys:
            return ANONYMOUS
        if not authorization or not _is_bearer(authorization):
            raise NoCredentials("This needs a key; give yours as `Authorization: Bearer <key>`.")
        self._failed.check(address)
        try:
            return await self._key_lookup.caller(authorization.partition(" ")[2].strip())
        except Unauthorized:
            self._note_failure(address)
            raise

    async def authenticate_socket(self, authorization: str | None, ticket: str | None, address: str) -> Caller:
        """Tell who opens a socket: by key where the client can set a header, else by ticket.

        Raises
        ------
        Unauthorized, TooMany
            As for the one that was shown.
        """
        if ticket is not None and authorization is None:
            return await self.authenticate_ticket(ticket, address)
        return await self.authenticate_key(authorization, address)

    async def authenticate_ticket(self, ticket: str, address: str) -> Caller:
        """Tell who was given this ticket, which is used up by that.

        Raises
        ------
        Unauthorized
            It is none, or its minute is over, or it was used, or its key is no longer good.
        TooMany
            Too many from this address were no good.
        """
        if not self._resources.settings.wants_keys:
            return ANONYMOUS
        self._failed.check(address)
        try:
            caller = await ws_tickets.redeem(self._resources, ticket)
            await self._require_good(caller)
        except Unauthorized:
            self._note_failure(address)
            raise
        return caller

    async def authorize(self, caller: Caller, scope: Scope) -> QuotaStatus | None:
        """Let a caller do one thing; how the owner stands after it.

        Raises
        ------
        Forbidden
            The key has not the scope for it.
        TooMany
            The owner asked too often.
        """
        quota_status = await self._quotas.take_request(caller.owner)
        if not caller.may(scope):
            raise Forbidden(f"This needs a key with the scope `{scope}`; yours has {_listed(caller)}.")
        return quota_status

    async def reauthorize(self, caller: Caller, scope: Scope) -> QuotaStatus | None:
        """Let a caller who came in earlier do one thing; see `admit`.

        Raises
        ------
        Unauthorized
            The key has been revoked or has expired since.
        """
        await self._require_good(caller)
        return await self.authorize(caller, scope)

    async def is_key_still_valid(self, caller: Caller) -> bool:
        """Tell whether the key that a caller came in by would still let them in."""
        return caller.key_id is None or await self._key_lookup.is_still_valid(caller.key_id)

    async def _require_good(self, caller: Caller) -> None:
        if not await self.is_key_still_valid(caller):
            raise Unauthorized("The key is no longer good.")

    def _note_failure(self, address: str) -> None:
        log.warning("caller turned away", address=address)
        self._failed.note(address)


def _is_bearer(authorization: str) -> bool:
    return authorization.partition(" ")[0].lower() == "bearer"


def _listed(caller: Caller) -> str:
    return ", ".join(f"`{scope}`" for scope in sorted(caller.scopes)) or "none"
