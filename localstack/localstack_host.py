"""LocalStack 4.13.1 as a local process, without Docker: `python localstack/localstack_host.py`.

It listens on the address that localstack-client uses (`LOCALSTACK_HOST`, such as `127.0.0.1:4566`), persists
nothing, checks no signatures, and prints `Ready` when it can be used:

    AWS_ENDPOINT_URL=http://127.0.0.1:4566 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test make run
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import environments  # noqa: F401  (makes the packages importable)
from environments.venvs import LOCKS, EnvironmentFailed, ensure
from localstack_client.config import get_service_endpoint
from supervision.lifecycle import run_until_stopped
from supervision.ports import PortUnavailable, check_port
from supervision.processes import ChildProcess, Program, StartFailed, responds

from pipeline.settings import load_settings
from pipeline.telemetry.logs import configure_logging

WARNING = """
WARNING: LocalStack checks no signatures. Every user and every program of this machine can read, change and delete
what is stored in it, whatever AUTH says. Use it for tests, never for the voices of real people.
"""

STOP_SECONDS = 3.0  # short, as it persists nothing


def program(endpoint: str, folder: Path) -> Program:
    """Return LocalStack in host mode, restricted to the services in use, with its files in a folder."""
    return Program(
        "LocalStack",
        ["-m", "localstack.runtime.main"],
        is_ready=responds(f"{endpoint}/_localstack/health"),
        python=str(ensure("localstack", LOCKS["localstack"])),
        environment={
            "GATEWAY_LISTEN": urlsplit(endpoint).netloc,
            "FILESYSTEM_ROOT": str(folder),
            "SERVICES": "s3,sqs",
            "EAGER_SERVICE_LOADING": "1",
            "LS_LOG": "warning",
            # Only the signatures of presigned forms and URLs are checked.
            "S3_SKIP_SIGNATURE_VALIDATION": "0",
            "SQS_ENDPOINT_STRATEGY": "path",
            # Pages of other origins are refused.
            "DISABLE_CORS_CHECKS": "0",
            # No requests to the internet.
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DNS_ADDRESS": "0",
        },
    )


async def serve(endpoint: str, folder: Path) -> None:
    """Run it until cancelled."""
    localstack = ChildProcess(program(endpoint, folder))
    running = asyncio.create_task(localstack.keep_running())
    printing = asyncio.create_task(_print_when_ready(localstack, endpoint))
    try:
        await running
    finally:
        printing.cancel()
        running.cancel()
        await localstack.stop(STOP_SECONDS)


async def _print_when_ready(localstack: ChildProcess, endpoint: str) -> None:
    await localstack.ready.wait()
    print(f"{WARNING}\nReady: AWS_ENDPOINT_URL={endpoint}", flush=True)


def main() -> int:
    """Run LocalStack until stopped; return the exit code."""
    configure_logging(load_settings(), "localstack")
    endpoint = get_service_endpoint("s3")
    where = urlsplit(endpoint)
    try:
        check_port(where.hostname or "127.0.0.1", where.port or 4566)
        with tempfile.TemporaryDirectory(prefix="localstack-") as folder:
            run_until_stopped(serve(endpoint, Path(folder)))
    except (EnvironmentFailed, PortUnavailable, StartFailed) as error:
        print(f"Can't start LocalStack: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
