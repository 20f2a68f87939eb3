"""The dependencies of routes.

They are coroutines although they await nothing: FastAPI runs plain functions in a thread, for every request.
"""

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from functions.http.services import Services, services_of
from pipeline.access.api_keys import Caller
from pipeline.clients.resources import Resources


async def _services(connection: HTTPConnection) -> Services:
    return services_of(connection)


async def _resources(connection: HTTPConnection) -> Resources:
    return services_of(connection).resources


async def _caller(connection: HTTPConnection) -> Caller:
    caller: Caller = connection.state.caller  # set by `AuthorizedRoute`
    return caller


FromCaller = Annotated[Caller, Depends(_caller)]
FromResources = Annotated[Resources, Depends(_resources)]
FromServices = Annotated[Services, Depends(_services)]
