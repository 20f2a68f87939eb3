"""The dependencies of routes, from the state of the application.

They are coroutines although they await nothing: FastAPI runs plain functions in a thread, for every request.
"""

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from functions.access.connection_limits import ConnectionLimits
from functions.http.status.health_checks import HealthChecks
from functions.http.status.service_status import StatusReader
from functions.previews.completion_waiters import CompletionWaiters
from functions.previews.queue_depth import QueueDepth
from pipeline.access.api_keys import Caller
from pipeline.clients.resources import Resources


async def _resources(connection: HTTPConnection) -> Resources:
    found = connection.app.state.resources
    assert isinstance(found, Resources)  # noqa: S101 - set when the application is started
    return found


async def _waiters(connection: HTTPConnection) -> CompletionWaiters:
    found = connection.app.state.waiters
    assert isinstance(found, CompletionWaiters)  # noqa: S101 - set when the application is started
    return found


async def _connection_limits(connection: HTTPConnection) -> ConnectionLimits:
    found = connection.app.state.connection_limits
    assert isinstance(found, ConnectionLimits)  # noqa: S101 - set when the application is started
    return found


async def _health_checks(connection: HTTPConnection) -> HealthChecks:
    found = connection.app.state.health_checks
    assert isinstance(found, HealthChecks)  # noqa: S101 - set when the application is started
    return found


async def _queue_depth(connection: HTTPConnection) -> QueueDepth:
    found = connection.app.state.queue_depth
    assert isinstance(found, QueueDepth)  # noqa: S101 - set when the application is started
    return found


async def _caller(connection: HTTPConnection) -> Caller:
    found = connection.state.caller
    assert isinstance(found, Caller)  # noqa: S101 - set by `AuthorizedRoute`
    return found


async def _status_reader(connection: HTTPConnection) -> StatusReader:
    found = connection.app.state.status_reader
    assert isinstance(found, StatusReader)  # noqa: S101 - set when the application is started
    return found


FromCaller = Annotated[Caller, Depends(_caller)]
FromConnectionLimits = Annotated[ConnectionLimits, Depends(_connection_limits)]
FromHealthChecks = Annotated[HealthChecks, Depends(_health_checks)]
FromResources = Annotated[Resources, Depends(_resources)]
FromQueueDepth = Annotated[QueueDepth, Depends(_queue_depth)]
FromStatusReader = Annotated[StatusReader, Depends(_status_reader)]
FromWaiters = Annotated[CompletionWaiters, Depends(_waiters)]
