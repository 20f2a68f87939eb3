"""Webhooks: the records of their receivers and deliveries, their signature, and the times of their retries.

The signature is that of Standard Webhooks (https://www.standardwebhooks.com).
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime

from pydantic import AwareDatetime, Field, ValidationError

from pipeline.contract.records import Record

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of every secret
SECRET_BYTES = 32

# The seconds between the attempts: about 22 hours, so that the last one is made before the job's record expires.
RETRY_SECONDS = (5, 30, 120, 600, 1800, 3600, 7200, 10_800, 14_400, 18_000, 21_600)
ATTEMPTS = 1 + len(RETRY_SECONDS)
JITTER = 1 / 5


class WebhookReceiver(Record):
    """`webhooks/<owner>.json`: an owner's secrets, the newest first, and default receiver."""

    secrets: tuple[str, ...] = Field((), repr=False)
    url: str | None = None


class WebhookDelivery(Record):
    """A message of the webhooks queue: send the result of a job to one receiver."""

    job_id: str
    url: str
    group: str | None = Field(None, description="the message group, for fairness between receivers")
    is_resent: bool = Field(False, description="the message replaces one that may be lost")


class WebhookFailure(Record):
    """`jobs/<job_id>/webhook-failure.json`: a webhook that was given up."""

    failed_at: AwareDatetime
    attempts: int
    reason: str


def parse_delivery(body: str) -> WebhookDelivery | None:
    """Parse a message of the webhooks queue. Return None if it is not one."""
    try:
        return WebhookDelivery.model_validate_json(body)
    except ValidationError:
        return None


def new_secret(random: bytes) -> str:
    """Return random bytes in the format of a secret."""
    return SECRET_PREFIX + base64.b64encode(random).decode()


def signed_headers(secrets: Iterable[str], message_id: str, sent_at: datetime, body: bytes) -> dict[str, str]:
    """Return the headers that identify and sign a message, with one signature per secret."""
    timestamp = str(int(sent_at.timestamp()))
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = (hmac.digest(_key(secret), signed, hashlib.sha256) for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(one).decode()}" for one in signatures),
    }


def retry_delay(attempt: int, jitter: float) -> int | None:
    """Return after how many seconds a failed attempt is repeated, or None if it was the last.

    Parameters
    ----------
    attempt
        The number of the attempt, from 1.
    jitter
        0 to 1: the delay is shortened by up to a fifth, so that not all messages return at once.
    """
    return max(1, int(RETRY_SECONDS[attempt - 1] * (1 - jitter * JITTER))) if attempt < ATTEMPTS else None


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(SECRET_PREFIX))
