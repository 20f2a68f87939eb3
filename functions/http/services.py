"""The objects that serve the requests of one process, in `app.state.services`."""

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from functions.access.access_control import AccessControl
from functions.access.connection_limits import ConnectionLimits
from functions.http.status.health_checks import HealthChecks
from functions.http.status.service_status import StatusReader
from functions.previews.completion_waiters import CompletionWaiters
from functions.previews.queue_depth import QueueDepth
from functions.previews.transcoding import Transcoder
from pipeline.clients.resources import Resources


@dataclass(frozen=True, slots=True)
class Services:
    """The clients, caches and limits that all requests of a process share."""

    resources: Resources
    access_control: AccessControl
    connection_limits: ConnectionLimits
    health_checks: HealthChecks
    queue_depth: QueueDepth
    status_reader: StatusReader
    transcoder: Transcoder
    waiters: CompletionWaiters


def create_services(resources: Resources, version: str) -> Services:
    """Create the services of a process.

    Parameters
    ----------
    resources
        The clients of storage and queues.
    version
        The version of the service, as `/status` returns it.
    """
    health_checks = HealthChecks(resources)
    return Services(
        resources=resources,
        access_control=AccessControl(resources),
        connection_limits=ConnectionLimits(resources.settings),
        health_checks=health_checks,
        queue_depth=QueueDepth(resources),
        status_reader=StatusReader(resources, health_checks, version),
        transcoder=Transcoder(resources),
        waiters=CompletionWaiters(resources),
    )


def services_of(connection: HTTPConnection) -> Services:
    """Return the services of the application that handles a connection."""
    services: Services = connection.app.state.services
    return services
