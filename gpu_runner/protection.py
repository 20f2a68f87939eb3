"""Scale-in protection: ECS may stop a worker that has nothing in hand, and never one at work.

The rule: protection is taken before a worker receives, and held while a poll is under way or anything is in hand.
After a poll that came back empty, with nothing in hand, it is given up, and for `OPEN_SECONDS` nothing is received:
then ECS may stop the worker and no job loses a moment by it.  An idle worker so asks ECS twice a poll, a busy one
once in `RENEW_SECONDS`.

ECS refuses when more tasks are protected than it is to keep, that is when it is scaling in or deploying.  A worker
that is refused receives nothing, finishes what it has, gives its protection up and asks again: a busy service thus
makes way within one renewal.  An agent that can't be asked keeps no one from working: a worker that is stopped
unprotected still drains, and what it can't finish is handed back.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Literal, Protocol, Self

import aiohttp
import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gpu_runner.deliveries import Sleep
from gpu_runner.links import Link
from pipeline.errors import Unavailable
from pipeline.ids import Clock
from pipeline.settings import Settings

PATH = "/task-protection/v1/state"
EXPIRES_MINUTES = 10  # a worker that died or lost its agent holds up a scale-in no longer than that
RENEW_SECONDS = 240.0  # twice before it expires, so that one may fail
OPEN_SECONDS = 5.0
RETRY_SECONDS = 30.0
TIMEOUT_SECONDS = 5.0

Standing = Literal["open", "held", "refused"]

log = structlog.get_logger(__name__)


class Protection(Protocol):
    """What keeps a worker at work from being stopped."""

    @property
    def is_held(self) -> bool:
        """Whether it has to be released for the worker to be stopped."""

    async def take(self) -> bool:
        """Take it unless it is held; whether jobs may be received."""

    async def release(self) -> None:
        """Give it up, if it is held."""

    async def keep(self) -> None:
        """Renew it for as long as it is held; never returns."""


class NoProtection:
    """Where nobody stops idle workers."""

    is_held = False

    async def take(self) -> bool:
        """See `Protection.take`."""
        return True

    async def release(self) -> None:
        """See `Protection.release`."""

    async def keep(self) -> None:
        """See `Protection.keep`."""
        await asyncio.Event().wait()


class EcsProtection:
    """Protection by the ECS agent of the machine, which speaks for this task."""

    def __init__(self, http: aiohttp.ClientSession, agent_url: str, clock: Clock, *, sleep: Sleep) -> None:
        self._http = http
        self._url = agent_url.rstrip("/") + PATH
        self._clock = clock
        self._sleep = sleep
        self._link = Link("ECS agent", clock)
        self._standing: Standing = "open"
        self._was_granted = False
        self._ask_again_at: datetime = clock()

    @property
    def is_held(self) -> bool:
        """See `Protection.is_held`."""
        return self._standing != "open"

    async def take(self) -> bool:
        """See `Protection.take`."""
        if self._standing != "held" and self._clock() >= self._ask_again_at:
            await self._set(enabled=True)
        return self._standing != "refused"

    async def release(self) -> None:
        """See `Protection.release`."""
        if self.is_held:
            await self._set(enabled=False)
            # Whatever the answer: what could not be given up now expires.
            self._standing = "open"

    async def keep(self) -> None:
        """See `Protection.keep`."""
        while True:
            await self._sleep(RENEW_SECONDS)
            if self._standing == "held":
                await self._set(enabled=True)

    async def _set(self, *, enabled: bool) -> None:
        try:
            refusal = await self._ask(
                _State(enabled=enabled, expires_in_minutes=EXPIRES_MINUTES if enabled else None)
            )
        except Unavailable as error:
            self._link.failed(error)
            self._ask_again_at = self._clock() + timedelta(seconds=RETRY_SECONDS)
            if self._standing == "refused":
                self._standing = "open"
        else:
            self._link.answered()
            self._note(enabled, refusal)

    def _note(self, enabled: bool, refusal: str | None) -> None:
        before = self._standing
        self._standing = "refused" if refusal else "held" if enabled else "open"
        self._was_granted = self._was_granted or self._standing == "held"
        if self._standing == "refused" != before:
            log.info("receiving nothing, ECS wants to stop a worker", reason=refusal)
        else:
            log.debug("protection from being stopped", standing=self._standing)

    async def _ask(self, state: "_State") -> str | None:
        """Ask for a state; why ECS refuses it, if it does.

        Raises
        ------
        Unavailable
            The agent, or ECS behind it, gave no answer that can be used.
        """
        answer = await self._put(state)
        if answer.error:
            raise Unavailable(f"The ECS agent could not ask ECS: {answer.error.code}: {answer.error.message}")
        if answer.failure is None:
            return None
        reason = answer.failure.reason
        # Before anything was granted, any other reason is that of a task never protected, as one started by hand.
        if reason != "DEPLOYMENT_BLOCKED" and not self._was_granted:
            raise Unavailable(f"ECS does not protect this task: {reason}.")
        return reason

    async def _put(self, state: "_State") -> "_Answer":
        try:
            async with self._http.put(
                self._url, json=state.model_dump(by_alias=True, exclude_none=True)
            ) as response:
                return _Answer.model_validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"The ECS agent did not answer: {error or type(error).__name__}.") from error
        except ValidationError as error:
            raise Unavailable("The ECS agent answered something else than the state of the protection.") from error


class _State(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    enabled: bool = Field(alias="ProtectionEnabled")
    expires_in_minutes: int | None = Field(None, alias="ExpiresInMinutes")


class _Failure(BaseModel):
    reason: str = Field(alias="Reason")


class _Error(BaseModel):
    code: str = Field(alias="Code")
    message: str = Field(alias="Message")


class _Answer(BaseModel):
    protection: _State | None = None
    failure: _Failure | None = None
    error: _Error | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.protection or self.failure or self.error):
            raise ValueError("neither a state nor why there is none")
        return self


@asynccontextmanager
async def protection_for(settings: Settings, clock: Clock, *, sleep: Sleep) -> AsyncIterator[Protection]:
    """Give the protection that there is to be had, for the life of the context."""
    if settings.ecs_agent_uri is None:
        yield NoProtection()
        return
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)) as http:
        yield EcsProtection(http, settings.ecs_agent_uri, clock, sleep=sleep)
