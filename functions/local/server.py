"""The local server: HTTP and WebSocket in one application, configured by the settings."""

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI

from functions.http.application import create_app, serve_with
from functions.local import connection_posts, websocket_route
from functions.local.connections import ConnectionRegistry
from functions.local.http_protocol import MAX_CONNECTIONS, ON_SHUTDOWN
from functions.local.proxy_headers import ProxyHeaders
from functions.local.websocket_protocol import FRAMES_PER_MINUTE
from functions.websocket.dispatch import Dispatcher
from pipeline.addresses import is_loopback
from pipeline.clients import deadlines
from pipeline.clients.resources import Resources, connect, current_credentials
from pipeline.ids import Clock, utc_now
from pipeline.settings import Settings, load_settings
from pipeline.telemetry.logs import configure_logging
from pipeline.telemetry.tracing import configure_tracing

if sys.platform != "win32":
    import resource

log = structlog.get_logger(__name__)

CHECK_SECONDS = 2.0
TRIM_SECONDS = 5.0
CONNECTIONS_MAX = 8192


def application() -> FastAPI:
    """Return the application of one server process, configured by its environment."""
    settings = load_settings()
    configure_logging(settings, "api")
    configure_tracing(settings, "api")
    _die_with_parent()
    return local_app(settings)


def local_app(settings: Settings, clock: Clock = utc_now) -> FastAPI:
    """Return the application with its WebSocket route; it connects when the server starts it."""
    app = create_app(settings, on_loopback=is_loopback(settings.host))
    # First: the mounts that follow match WebSockets too, and can't handle them.
    app.router.routes[:0] = websocket_route.router.routes
    if settings.proxies:
        app.add_middleware(ProxyHeaders, trusted_hosts=list(settings.proxies))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with connect(settings, clock) as resources:
            await _check_configuration(resources)
            waiters = serve_with(app, resources)
            app.state.connections = ConnectionRegistry()
            app.state.dispatcher = Dispatcher(
                resources, app.state.services.access_control, app.state.services.turns
            )
            posted = connection_posts.PostedMessages(waiters, app.state.connections)
            verifier = connection_posts.verifier_for(current_credentials(settings))
            async with connection_posts.serving(posted, verifier) as endpoint:
                app.state.connections.endpoint = waiters.endpoint = endpoint
                trimming = asyncio.create_task(_return_freed_memory())
                yield {
                    FRAMES_PER_MINUTE: settings.websocket_frames_per_minute,
                    MAX_CONNECTIONS: _max_connections(),
                    ON_SHUTDOWN: waiters.stop,
                }
                trimming.cancel()

    app.router.lifespan_context = lifespan
    return app


async def _check_configuration(resources: Resources) -> None:
    """Call all dependencies of requests, so that a misconfiguration is logged before the first request."""
    with deadlines.within(CHECK_SECONDS):
        pings = (resources.bucket.ping(), resources.voices.ping(), resources.synthesis.ping())
        await asyncio.gather(*pings, return_exceptions=True)


def _max_connections() -> int:
    """Return the limit of open connections: half of the descriptors that this process may have, once raised."""
    if sys.platform == "win32":
        return CONNECTIONS_MAX
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS_MAX if hard == resource.RLIM_INFINITY else min(hard, 2 * CONNECTIONS_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, soft // 2)


async def _return_freed_memory() -> None:
    """Return freed memory to the system every few seconds: glibc keeps it after a burst of large requests.

    malloc_trim(3) takes a millisecond, or some 50 after a burst.  Other C libraries do not have it.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    while True:
        await asyncio.sleep(TRIM_SECONDS)
        trim(0)


def _die_with_parent() -> None:
    """End this process when its parent dies: otherwise it would keep running and hold the port."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
