"""Who comes in, over HTTP and WebSocket alike: the key is looked at, then the scope, then the owner's share."""

import structlog

from functions.access.throttle import FailedTries
from pipeline.access import ws_tickets
from pipeline.access.api_keys import ANYBODY, Caller
from pipeline.access.key_lookup import Keyring
from pipeline.access.quotas import Shares
from pipeline.clients.resources import Resources
from pipeline.contract.records import Scope
from pipeline.errors import Forbidden, Standing, Unauthorized

log = structlog.get_logger(__name__)


class Gate:
    """Lets callers in.  One serves a whole process: what it knows of keys and shares is kept a while."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._keyring = Keyring(resources)
        self._shares = Shares(resources, resources.clock)
        self._failed = FailedTries(resources.clock)

    async def caller_by_key(self, authorization: str | None, address: str) -> Caller:
        """Tell who shows this `Authorization` header.

        Raises
        ------
        Unauthorized
            It holds no key that is good now.
        TooMany
            Too many from this address did not.
        """
        if not self._resources.settings.wants_keys:
            return ANYBODY
        if not authorization:
            raise Unauthorized("This needs a key; give yours as `Authorization: Bearer <key>`.")
        self._failed.check(address)
        try:
            return await self._keyring.caller(_bearer(authorization))
        except Unauthorized:
            self._note_failure(address)
            raise

    async def caller_of_socket(self, authorization: str | None, ticket: str | None, address: str) -> Caller:
        """Tell who opens a socket: by key where the client can set a header, else by ticket.

        Raises
        ------
        Unauthorized, TooMany
            As for the one that was shown.
        """
        if ticket is not None and authorization is None:
            return await self.caller_by_ticket(ticket, address)
        return await self.caller_by_key(authorization, address)

    async def caller_by_ticket(self, ticket: str, address: str) -> Caller:
        """Tell who was given this ticket, which is used up by that.

        Raises
        ------
        Unauthorized
            It is none, or its minute is over, or it was used, or its key is no longer good.
        TooMany
            Too many from this address were no good.
        """
        if not self._resources.settings.wants_keys:
            return ANYBODY
        self._failed.check(address)
        try:
            caller = await ws_tickets.redeem(self._resources, ticket)
            await self._require_good(caller)
        except Unauthorized:
            self._note_failure(address)
            raise
        return caller

    async def admit(self, caller: Caller, scope: Scope) -> Standing | None:
        """Let a caller do one thing; how the owner stands after it.

        Raises
        ------
        Forbidden
            The key has not the scope for it.
        TooMany
            The owner asked too often.
        """
        standing = await self._shares.take_request(caller.owner)
        if not caller.may(scope):
            raise Forbidden(f"This needs a key with the scope `{scope}`; yours has {_listed(caller)}.")
        return standing

    async def admit_again(self, caller: Caller, scope: Scope) -> Standing | None:
        """Let a caller who came in earlier do one thing; see `admit`.

        Raises
        ------
        Unauthorized
            The key has been revoked or has expired since.
        """
        await self._require_good(caller)
        return await self.admit(caller, scope)

    async def is_still_good(self, caller: Caller) -> bool:
        """Tell whether the key that a caller came in by would still let them in."""
        return caller.key_id is None or await self._keyring.still_good(caller.key_id)

    async def _require_good(self, caller: Caller) -> None:
        if not await self.is_still_good(caller):
            raise Unauthorized("The key is no longer good.")

    def _note_failure(self, address: str) -> None:
        log.warning("caller turned away", address=address)
        self._failed.note(address)


def _bearer(authorization: str) -> str:
    scheme, _, text = authorization.partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""


def _listed(caller: Caller) -> str:
    return ", ".join(f"`{scope}`" for scope in sorted(caller.scopes)) or "none"
