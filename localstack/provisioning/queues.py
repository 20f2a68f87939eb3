"""Queues and their attributes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from pipeline.contract.messages.webhooks import ATTEMPTS
from pipeline.settings import Settings
from provisioning.rules import OURS, optional

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

log = structlog.get_logger()

# The limits of SQS.
SHORTEST_RETENTION, LONGEST_RETENTION = timedelta(minutes=1), timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue and its attributes, as SQS names them."""

    url: str
    attributes: Mapping[str, str]

    @property
    def arn(self) -> str:
        """Its ARN."""
        return self.attributes["QueueArn"]


def queue_names(settings: Settings) -> tuple[str, ...]:
    """Return the names or URLs of all queues."""
    return (
        settings.synthesis_queue,
        settings.synthesis_dead_letter_queue,
        settings.events_queue,
        settings.events_dead_letter_queue,
        settings.webhooks_queue,
        settings.webhooks_dead_letter_queue,
    )


async def provision_queues(sqs: "SQSClient", settings: Settings) -> str:
    """Create the queues and set their attributes; return the ARN of the events queue."""
    synthesis_dead = await _get_or_create(sqs, settings.synthesis_dead_letter_queue)
    events_dead = await _get_or_create(sqs, settings.events_dead_letter_queue)
    synthesis = await _get_or_create(sqs, settings.synthesis_queue)
    events = await _get_or_create(sqs, settings.events_queue)
    webhooks_dead = await _get_or_create(sqs, settings.webhooks_dead_letter_queue)
    webhooks = await _get_or_create(sqs, settings.webhooks_queue)
    # A job's message has its text, and is kept no longer than the job's record; one that died keeps its age.
    job_retention = min(max(settings.job_retention, SHORTEST_RETENTION), LONGEST_RETENTION)
    for queue, kept in (
        (synthesis, job_retention),
        (synthesis_dead, job_retention),
        (events_dead, LONGEST_RETENTION),
        (webhooks_dead, LONGEST_RETENTION),
    ):
        await _set_attribute(sqs, queue, "MessageRetentionPeriod", str(int(kept.total_seconds())))
    for queue, dead, receives in (
        (synthesis, synthesis_dead, settings.max_receives),
        (events, events_dead, settings.max_receives),
        (webhooks, webhooks_dead, ATTEMPTS),
    ):
        await _set_attribute(sqs, queue, "VisibilityTimeout", str(settings.visibility_timeout_seconds))
        redrive = {"deadLetterTargetArn": dead.arn, "maxReceiveCount": receives}
        await _set_attribute(sqs, queue, "RedrivePolicy", json.dumps(redrive))
    await _set_attribute(sqs, events, "Policy", _policy(events, settings.bucket))
    return events.arn


async def _get_or_create(sqs: "SQSClient", name_or_url: str) -> Queue:
    """Return a queue given by URL or name; create it if it is given by name and does not exist."""
    url = name_or_url
    if not is_url(name_or_url):
        try:
            url = (await sqs.get_queue_url(QueueName=name_or_url))["QueueUrl"]
        except sqs.exceptions.QueueDoesNotExist:
            url = (await sqs.create_queue(QueueName=name_or_url))["QueueUrl"]
            log.debug("created a queue", queue=name_or_url)
    answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    return Queue(url, {str(name): value for name, value in answer.get("Attributes", {}).items()})


def is_url(name_or_url: str) -> bool:
    """Return whether a queue is given by its URL, and so is managed elsewhere."""
    return name_or_url.startswith(("http://", "https://"))


async def _set_attribute(sqs: "SQSClient", queue: Queue, name: str, value: str) -> None:
    if not _equal(queue.attributes.get(name, ""), value):
        with optional("queue attribute " + name, "the queue goes on without it"):
            await sqs.set_queue_attributes(QueueUrl=queue.url, Attributes={name: value})  # type: ignore[dict-item]


def _equal(one: str, other: str) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return one == other


def _policy(queue: Queue, bucket: str) -> str:
    """Return the queue's policy with our statement in it: this bucket of this account may send events."""
    arn = queue.arn
    partition, account = arn.split(":")[1], arn.split(":")[4]
    ours = {
        "Sid": OURS + "events",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {
            "ArnLike": {"aws:SourceArn": f"arn:{partition}:s3:::{bucket}"},
            "StringEquals": {"aws:SourceAccount": account},
        },
    }
    policy = json.loads(queue.attributes.get("Policy") or '{"Version": "2012-10-17"}')
    others = [statement for statement in policy.get("Statement", []) if statement.get("Sid") != ours["Sid"]]
    return json.dumps(policy | {"Statement": [*others, ours]})
