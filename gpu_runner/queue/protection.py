"""Scale-in protection: ECS may stop an idle worker, never a busy one.

A worker acquires protection before it receives and holds it while a poll is under way or any message is held.
After an empty poll with nothing held it releases the protection and receives nothing for `SCALE_IN_WINDOW_SECONDS`:
during that time ECS may stop the worker without delaying any job. An idle worker thus calls ECS twice per poll, a
busy one every `RENEW_SECONDS`.

ECS refuses when more tasks are protected than the desired count, that is during a scale-in or a deployment. A
refused worker receives nothing, finishes what it has, releases its protection and asks again, so a busy service
makes room within one renewal. An unavailable agent does not block a worker: one that is stopped without
protection still drains and returns what it cannot finish.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Literal, Protocol, Self

import aiohttp
import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gpu_runner.dependency_health import DependencyHealth, Sleep
from pipeline.errors import Unavailable
from pipeline.ids import Clock
from pipeline.settings import Settings

PATH = "/task-protection/v1/state"
EXPIRES_MINUTES = 10  # how long a worker that died may delay a scale-in
RENEW_SECONDS = 240.0  # twice per expiry, so that one renewal may fail
SCALE_IN_WINDOW_SECONDS = 5.0
RETRY_SECONDS = 30.0
TIMEOUT_SECONDS = 5.0

State = Literal["released", "held", "refused"]

log = structlog.get_logger(__name__)


class Protection(Protocol):
    """Prevents a scale-in from stopping a busy worker."""

    @property
    def is_held(self) -> bool:
        """Whether it must be released before the worker can be stopped."""

    async def acquire(self) -> bool:
        """Acquire it unless it is held. Return whether jobs may be received."""

    async def release(self) -> None:
        """Release it if it is held."""

    async def renew_forever(self) -> None:
        """Renew it for as long as it is held. Never returns."""


class NoProtection:
    """For an environment that never scales in."""

    is_held = False

    async def acquire(self) -> bool:
        """See `Protection.acquire`."""
        return True

    async def release(self) -> None:
        """See `Protection.release`."""

    async def renew_forever(self) -> None:
        """See `Protection.renew_forever`."""
        await asyncio.Event().wait()


class EcsProtection:
    """Task protection through the ECS agent of the instance."""

    def __init__(self, http: aiohttp.ClientSession, agent_url: str, clock: Clock, *, sleep: Sleep) -> None:
        self._http = http
        self._url = agent_url.rstrip("/") + PATH
        self._clock = clock
        self._sleep = sleep
        self._health = DependencyHealth("ECS agent", clock)
        self._state: State = "released"
        self._was_granted = False
        self._retry_at: datetime = clock()

    @property
    def is_held(self) -> bool:
        """See `Protection.is_held`."""
        return self._state != "released"

    async def acquire(self) -> bool:
        """See `Protection.acquire`."""
        if self._state != "held" and self._clock() >= self._retry_at:
            await self._set(enabled=True)
        return self._state != "refused"

    async def release(self) -> None:
        """See `Protection.release`."""
        if self.is_held:
            await self._set(enabled=False)
            # Whatever the response: a protection that could not be released expires.
            self._state = "released"

    async def renew_forever(self) -> None:
        """See `Protection.renew_forever`."""
        while True:
            await self._sleep(RENEW_SECONDS)
            if self._state == "held":
                await self._set(enabled=True)

    async def _set(self, *, enabled: bool) -> None:
        try:
            refusal = await self._request(
                _AgentState(enabled=enabled, expires_in_minutes=EXPIRES_MINUTES if enabled else None)
            )
        except Unavailable as error:
            self._health.failed(error)
            self._retry_at = self._clock() + timedelta(seconds=RETRY_SECONDS)
            if self._state == "refused":
                self._state = "released"
        else:
            self._health.succeeded()
            self._record(enabled, refusal)

    def _record(self, enabled: bool, refusal: str | None) -> None:
        before = self._state
        self._state = "refused" if refusal else "held" if enabled else "released"
        self._was_granted = self._was_granted or self._state == "held"
        if self._state == "refused" != before:
            log.info("scale-in protection refused, receiving nothing", reason=refusal)
        else:
            log.debug("scale-in protection", state=self._state)

    async def _request(self, state: "_AgentState") -> str | None:
        """Request a state. Return the reason if ECS refuses it.

        Raises
        ------
        Unavailable
            The agent, or ECS behind it, returned no usable response.
        """
        response = await self._put(state)
        if response.error:
            raise Unavailable(f"The ECS agent could not ask ECS: {response.error.code}: {response.error.message}")
        if response.failure is None:
            return None
        reason = response.failure.reason
        # Any other reason before the first grant means a task that ECS never protects, such as one started by hand.
        if reason != "DEPLOYMENT_BLOCKED" and not self._was_granted:
            raise Unavailable(f"ECS does not protect this task: {reason}.")
        return reason

    async def _put(self, state: "_AgentState") -> "_AgentResponse":
        try:
            async with self._http.put(
                self._url, json=state.model_dump(by_alias=True, exclude_none=True)
            ) as response:
                return _AgentResponse.model_validate_json(await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"The ECS agent did not answer: {error or type(error).__name__}.") from error
        except ValidationError as error:
            raise Unavailable("The ECS agent answered something else than the state of the protection.") from error


class _AgentState(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    enabled: bool = Field(alias="ProtectionEnabled")
    expires_in_minutes: int | None = Field(None, alias="ExpiresInMinutes")


class _Failure(BaseModel):
    reason: str = Field(alias="Reason")


class _Error(BaseModel):
    code: str = Field(alias="Code")
    message: str = Field(alias="Message")


class _AgentResponse(BaseModel):
    protection: _AgentState | None = None
    failure: _Failure | None = None
    error: _Error | None = None

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if not (self.protection or self.failure or self.error):
            raise ValueError("neither a state nor a reason")
        return self


@asynccontextmanager
async def protection_for(settings: Settings, clock: Clock, *, sleep: Sleep) -> AsyncIterator[Protection]:
    """Return the protection that this environment offers, for the life of the context."""
    if settings.ecs_agent_uri is None:
        yield NoProtection()
        return
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)) as http:
        yield EcsProtection(http, settings.ecs_agent_uri, clock, sleep=sleep)
