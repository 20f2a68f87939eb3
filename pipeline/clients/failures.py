"""Classification of failed AWS calls: temporary outages, and misconfigurations, which do not end by themselves."""

from functools import lru_cache

import structlog
from botocore.exceptions import ClientError, NoCredentialsError, NoRegionError

from pipeline.errors import Misconfigured, StorageFull, Unavailable

log = structlog.get_logger(__name__)

# The codes of both protocols of SQS. A HEAD request has no body, so its code is the HTTP status.
_PERMANENT_CODES = {
    "403",
    "404",
    "AccessDenied",
    "AccessDeniedException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "NoSuchBucket",
    "NonExistentQueue",
    "PermanentRedirect",
    "QueueDoesNotExist",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}


NO_SPACE = 507  # from the embedded S3, MinIO and other storages on disks


def unavailable(error: Exception, service: str, call: str, setting: str) -> Unavailable:
    """Return the error to raise for a failed call. `setting` is the name of the setting for the resource."""
    if isinstance(error, (NoCredentialsError, NoRegionError)):
        _log_once(service, str(error), setting)
        return Misconfigured(f"The {service} can't be called ({call}): {error}")
    if isinstance(error, ClientError) and (code := error_code(error)) in _PERMANENT_CODES:
        _log_once(service, code, setting)
        return Misconfigured(f"The {service} refuses ({call}): {code}. Check {setting} and the permissions.")
    if isinstance(error, ClientError) and _status(error) == NO_SPACE:
        return StorageFull(f"The {service} has no space left ({call}).")
    return Unavailable(f"The {service} does not answer ({call}).")


@lru_cache(maxsize=64)
def _log_once(service: str, reason: str, setting: str) -> None:
    """Log a misconfiguration once per process, as it affects every call."""
    log.critical("misconfigured", service=service, reason=reason, check=f"{setting}, and the permissions")


def error_code(error: ClientError) -> str:
    """Return the error code without the prefixes that some protocols add."""
    return error.response["Error"]["Code"].rpartition("#")[2].rpartition(".")[2]


def _status(error: ClientError) -> int | None:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
