"""LocalStack 4.13.1 as a process of this machine, for those without Docker: `python localstack/localstack_host.py`.

It listens where localstack-client's configuration says (`LOCALSTACK_HOST`, such as `127.0.0.1:4566`), forgets
everything when it stops, and says `Ready` when it can be used:

    AWS_ENDPOINT_URL=http://127.0.0.1:4566 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test make run
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import child
import place  # noqa: F401  (makes the packages importable)
from environments import LOCKS, EnvironmentFailed, ensure
from localstack_client.config import get_service_endpoint
from ports import PortRefused, check_port
from processes import Child, GaveUp, Program, answers

from pipeline.logs import configure_logging
from pipeline.settings import load_settings

STOP_SECONDS = 3.0  # it keeps nothing that could be lost


def program(endpoint: str, folder: Path) -> Program:
    """Describe LocalStack in host mode, restricted to what is used, keeping its files in a folder."""
    return Program(
        "LocalStack",
        ["-m", "localstack.runtime.main"],
        is_ready=answers(f"{endpoint}/_localstack/health"),
        python=str(ensure("localstack", LOCKS["localstack"])),
        environment={
            "GATEWAY_LISTEN": urlsplit(endpoint).netloc,
            "FILESYSTEM_ROOT": str(folder),
            "SERVICES": "s3,sqs",
            "EAGER_SERVICE_LOADING": "1",
            "LS_LOG": "warning",
            # Presigned forms and URLs count only if they are checked.
            "S3_SKIP_SIGNATURE_VALIDATION": "0",
            "SQS_ENDPOINT_STRATEGY": "path",
            # Nothing of it goes outside.
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DNS_ADDRESS": "0",
        },
    )


async def serve(endpoint: str, folder: Path) -> None:
    """Run it until cancelled."""
    localstack = Child(program(endpoint, folder))
    running = asyncio.create_task(localstack.keep_running())
    announcing = asyncio.create_task(_announce(localstack, endpoint))
    try:
        await running
    finally:
        announcing.cancel()
        running.cancel()
        await localstack.stop(STOP_SECONDS)


async def _announce(localstack: Child, endpoint: str) -> None:
    await localstack.ready.wait()
    print(f"Ready: AWS_ENDPOINT_URL={endpoint}", flush=True)


def main() -> int:
    """Run LocalStack until stopped; the exit code."""
    configure_logging(load_settings(), "localstack")
    endpoint = get_service_endpoint("s3")
    where = urlsplit(endpoint)
    try:
        check_port(where.hostname or "127.0.0.1", where.port or 4566)
        with tempfile.TemporaryDirectory(prefix="localstack-") as folder:
            child.run(serve(endpoint, Path(folder)))
    except (EnvironmentFailed, PortRefused, GaveUp) as error:
        print(f"Can't start LocalStack: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
