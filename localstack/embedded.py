"""The embedded AWS: S3 and SQS of ministack, for this machine alone.

Objects are kept in the data folder and survive `kill -9`.  Queues are not kept: they are derived from the objects
(see `recover.py`), so each start makes them anew.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from environments import ensure
from place import HERE

from pipeline.settings import Settings

HOST = "127.0.0.1"
HEALTH = "/_ministack/health"

# What ministack takes for valid when told nothing else.
KEY = "test"


def python() -> Path:
    """Give the Python that has ministack; it pins a newer botocore than the services can use."""
    return ensure("ministack", HERE / "ministack.lock")


def server_environment(port: int, data: Path, settings: Settings) -> dict[str, str]:
    """Give the environment of the embedded server."""
    return {
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(data / "s3"),
        "PERSIST_STATE": "0",
        "SERVICES": "s3,sqs",
        "MINISTACK_REGION": settings.aws_region,
        "LOG_LEVEL": "INFO" if settings.log_level == "DEBUG" else "WARNING",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        # It would look for containers to tidy up after, which are none of ours.
        "DOCKER_HOST": "unix:///nowhere",
    }


def client_environment(port: int) -> dict[str, str]:
    """Give the environment of the processes that use it."""
    direct = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST]))
    return {
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY,
        # Whatever this user has for the real AWS stays out of it.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": direct,
        "no_proxy": direct,
    }


# A profile or a token of the real AWS would go before, or along with, the key above.
UNSET_FOR_CLIENTS = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN")


def for_clients(environment: Mapping[str, str], port: int) -> dict[str, str]:
    """Point an environment at the embedded server."""
    kept = {name: value for name, value in environment.items() if name not in UNSET_FOR_CLIENTS}
    return kept | client_environment(port)
