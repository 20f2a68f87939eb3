"""Environment variables of the embedded AWS and of its clients.

Objects are kept in the data folder and survive `kill -9`.  Queues are not kept: they are derived from the objects
(see `provisioning/recovery.py`), so each start creates them again.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from environments.venvs import LOCKS, ensure
from provisioning.buckets import expiry_rules
from provisioning.queues import is_url, queue_names

from embedded.storage.data_folder import AwsCredentials
from pipeline.contract import layout
from pipeline.settings import Settings

HOST = "127.0.0.1"
ACCOUNT = "000000000000"

# Records without which nothing can be deleted from a full disk.
URGENT_FOLDERS = (layout.CHANGES, layout.REVOCATIONS, layout.AUDIT_PENDING)


def python() -> Path:
    """Return the Python with ministack, which pins a newer botocore than the services can use."""
    return ensure("store", LOCKS["store"])


def s3_folder_of(data: Path) -> Path:
    """Return the folder that contains the objects, as `<account>/<bucket>/<key>`."""
    return data / "s3"


def server_environment(port: int, data: Path, settings: Settings, credentials: AwsCredentials) -> dict[str, str]:
    """Return the environment of the embedded server."""
    return {
        **credentials.environment(),
        "ALLOWED_ORIGINS": ",".join(settings.allowed_origins),
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "OBJECTS_FOLDER": str(s3_folder_of(data)),
        "S3_PERSIST": "0",  # until the server has loaded the objects
        "EPHEMERAL_PREFIXES": ",".join(rule["Filter"]["Prefix"] for rule in expiry_rules(settings)),
        "URGENT_KEYS": rf"({'|'.join(URGENT_FOLDERS)}).*|{layout.VOICES}.*/metadata\.json",
        "QUEUES": ",".join(name for name in queue_names(settings) if not is_url(name)),
        "PERSIST_STATE": "0",
        "SERVICES": "s3,sqs",
        "MINISTACK_REGION": settings.aws_region,
        "LOG_LEVEL": "INFO" if settings.log_level == "DEBUG" else "WARNING",
        # Fixed thresholds: otherwise glibc keeps large blocks after a burst.
        "MALLOC_MMAP_THRESHOLD_": str(128 * 1024),
        "MALLOC_TRIM_THRESHOLD_": str(1024 * 1024),
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        # Otherwise it would remove leftover containers, which are not ours.
        "DOCKER_HOST": "unix:///nowhere",
    }


def client_environment(port: int, credentials: AwsCredentials) -> dict[str, str]:
    """Return the environment of the processes that use the embedded AWS."""
    no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST]))
    return {
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        **credentials.environment(),
        # The user's configuration for the real AWS does not apply.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


# A profile or session token for the real AWS would override the key above, or be sent with it.
UNSET_FOR_CLIENTS = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN")


def pointing_at(port: int, credentials: AwsCredentials, environment: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of an environment that points at the embedded AWS on this port."""
    kept = {name: value for name, value in environment.items() if name not in UNSET_FOR_CLIENTS}
    return kept | client_environment(port, credentials)


def point_environment_at(port: int, credentials: AwsCredentials) -> None:
    """Point this process's environment at the embedded AWS on this port."""
    environment = pointing_at(port, credentials, os.environ)
    os.environ.clear()
    os.environ.update(environment)
