"""A worker process on the embedded storage and queue, for benchmarks of the worker."""

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil
from embedded import configuration
from embedded.storage.data_folder import AwsCredentials
from supervision.ports import free_port
from supervision.processes import ChildProcess
from supervisor import store_program

from pipeline.clients.resources import Resources, connect
from pipeline.contract.records import Request, Source
from pipeline.domain import acceptance
from pipeline.settings import Settings
from tests.support.job_requests import make_request


@asynccontextmanager
async def embedded_store(**settings: object) -> AsyncIterator[Resources]:
    """Run the embedded storage and queue on a free port, and set the environment of this process for them."""
    port = free_port(configuration.HOST)
    credentials = AwsCredentials("benchmark", secrets.token_hex())
    os.environ.update(configuration.client_environment(port, credentials))
    configured = Settings.model_validate({"previews_in_flight": 0, **settings})
    with tempfile.TemporaryDirectory() as folder:
        child = ChildProcess(store_program(port, Path(folder), configured, credentials))
        task = asyncio.create_task(child.keep_running())
        try:
            await child.ready.wait()
            async with connect(configured) as resources:
                yield resources
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await child.stop(1)


@contextmanager
def worker_process(**environment: str) -> Iterator[psutil.Process]:
    """Run a worker with the mock engine."""
    variables: Mapping[str, str] = {**os.environ, "TTS_BACKEND": "mock", "LOG_LEVEL": "WARNING", **environment}
    process = subprocess.Popen([sys.executable, "-m", "gpu_runner"], env=variables)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


async def accept_preview(resources: Resources, session_id: str, owner: str | None, *, text: str) -> Request:
    """Accept a preview of an upload for an owner."""
    source = Source(session_id=session_id, owner=owner)
    request = make_request(resources, source, session_id, text=text)
    await acceptance.accept(resources, request)
    return request
