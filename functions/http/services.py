"""The objects that serve the requests of one process, in `app.state.services`."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from functions.access.access_control import AccessControl
from functions.access.address_limit import AddressLimit
from functions.access.connection_limits import ConnectionLimits
from functions.http.status.health_checks import HealthChecks
from functions.http.status.service_status import StatusReader
from functions.previews.completion_waiters import CompletionWaiters
from functions.previews.fair_turns import FairTurns
from functions.previews.queue_depth import QueueDepth
from functions.previews.transcoding import Transcoder
from pipeline.addresses import is_loopback
from pipeline.clients.resources import Resources
from pipeline.provenance.manifests import Manifests

# How many jobs are accepted at a time.  A storage on this machine is limited by the CPU: with more, the jobs of one
# owner would delay those of others, and no more would be accepted.
ACCEPTED_AT_ONCE, ACCEPTED_AT_ONCE_LOCALLY = 32, 2


@dataclass(frozen=True, slots=True)
class Services:
    """The clients, caches and limits that all requests of a process share."""

    resources: Resources
    access_control: AccessControl
    connection_limits: ConnectionLimits
    health_checks: HealthChecks
    manifests: Manifests
    queue_depth: QueueDepth
    status_reader: StatusReader
    transcoder: Transcoder
    turns: FairTurns
    verifications: AddressLimit
    """Of requests to `/verify` without a key."""
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
    health_checks, manifests = HealthChecks(resources), Manifests(resources)
    endpoint = resources.settings.endpoint_for("s3")
    is_local = endpoint is not None and is_loopback(urlsplit(endpoint).hostname or "")
    return Services(
        resources=resources,
        access_control=AccessControl(resources),
        connection_limits=ConnectionLimits(resources.settings),
        health_checks=health_checks,
        manifests=manifests,
        queue_depth=QueueDepth(resources),
        status_reader=StatusReader(resources, health_checks, version),
        transcoder=Transcoder(resources, manifests),
        turns=FairTurns(ACCEPTED_AT_ONCE_LOCALLY if is_local else ACCEPTED_AT_ONCE),
        verifications=AddressLimit(resources.clock, resources.settings.verifications_per_minute),
        waiters=CompletionWaiters(resources),
    )


def services_of(connection: HTTPConnection) -> Services:
    """Return the services of the application that handles a connection."""
    services: Services = connection.app.state.services
    return services
