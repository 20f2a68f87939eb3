"""What a route reaches for, found on the application that serves it."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from functions.waiting import Waiters
from pipeline.resources import Resources


def _resources(connection: HTTPConnection) -> Resources:
    found = connection.app.state.resources
    assert isinstance(found, Resources)  # noqa: S101 - set by whoever started the application
    return found


def _waiters(connection: HTTPConnection) -> Waiters:
    found = connection.app.state.waiters
    assert isinstance(found, Waiters)  # noqa: S101 - set by whoever started the application
    return found


FromResources = Annotated[Resources, Depends(_resources)]
FromWaiters = Annotated[Waiters, Depends(_waiters)]
