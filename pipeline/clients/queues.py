"""Queues, as little of them as the pipeline uses."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from pipeline import deadlines
from pipeline.clients.failures import error_code, unavailable

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_sqs.type_defs import BatchResultErrorEntryTypeDef, MessageTypeDef

log = structlog.get_logger(__name__)

# SQS takes and gives at most ten messages a call.
BATCH = 10


@dataclass(frozen=True, slots=True)
class Message:
    """A message in the hands of one receiver, until its visibility timeout ends."""

    id: str
    body: str
    receipt: str
    receive_count: int


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """About how many messages a queue holds: those that anybody may receive, and those that somebody has."""

    visible: int
    hidden: int


class Queue(Protocol):
    """A queue that delivers at least once, in any order; every method raises `Unavailable` on no answer."""

    async def send(self, body: str, *, group: str | None = None) -> None:
        """Add a message; one of a group waits no longer because of how many another group has sent."""

    async def receive(self, limit: int, *, wait_seconds: int) -> Sequence[Message]:
        """Take up to `limit` messages (at most `BATCH` of them come), waiting for the first."""

    async def delete(self, receipts: Sequence[str]) -> Sequence[str]:
        """Delete messages; return the receipts of those for which the queue asks for a retry."""

    async def hide(self, receipts: Sequence[str], seconds: int) -> Sequence[str]:
        """Hide messages from other receivers for so long from now, 0 returns them.

        Returns
        -------
        The receipts of those for which the queue asks for a retry.
        """

    async def counts(self) -> QueueCounts:
        """Count the messages, about."""

    async def depth(self) -> int:
        """Tell about how many messages anybody may receive now."""

    async def ping(self) -> None:
        """Raise `Unavailable` unless the queue answers."""


class SqsQueue:
    """A queue of SQS or whatever speaks its protocol."""

    def __init__(self, client: "SQSClient", name_or_url: str) -> None:
        self._client = client
        self._name_or_url = name_or_url
        self._url: str | None = None
        self._takes_groups = True

    async def send(self, body: str, *, group: str | None = None) -> None:
        """See `Queue.send`.

        A standard queue takes a group for the sake of fairness, in no order.  Stand-ins for SQS may know groups of
        FIFO queues only: such a one gets its messages without.
        """
        async with self._translated("send"):
            url = await self._find()
            if group is None or not self._takes_groups:
                await self._client.send_message(QueueUrl=url, MessageBody=body)
                return
            try:
                await self._client.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group)
            except ClientError as error:
                if not _is_wrong_parameter(error):
                    raise
                await self._client.send_message(QueueUrl=url, MessageBody=body)
                self._takes_groups = False
                log.warning("the queue takes no message groups; one owner can hold up others", queue=url)

    async def receive(self, limit: int, *, wait_seconds: int) -> Sequence[Message]:
        """See `Queue.receive`."""
        async with self._translated("receive"):
            answer = await self._client.receive_message(
                QueueUrl=await self._find(),
                MaxNumberOfMessages=min(limit, BATCH),
                WaitTimeSeconds=wait_seconds,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        return [_message(raw) for raw in answer.get("Messages", [])]

    async def delete(self, receipts: Sequence[str]) -> Sequence[str]:
        """See `Queue.delete`."""
        retriable: list[str] = []
        for some in _tens(receipts):
            async with self._translated("delete"):
                answer = await self._client.delete_message_batch(
                    QueueUrl=await self._find(),
                    Entries=[{"Id": str(n), "ReceiptHandle": receipt} for n, receipt in enumerate(some)],
                )
            retriable += _retriable(answer.get("Failed", []), some)
        return retriable

    async def hide(self, receipts: Sequence[str], seconds: int) -> Sequence[str]:
        """See `Queue.hide`."""
        retriable: list[str] = []
        for some in _tens(receipts):
            async with self._translated("change visibility"):
                answer = await self._client.change_message_visibility_batch(
                    QueueUrl=await self._find(),
                    Entries=[
                        {"Id": str(n), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                        for n, receipt in enumerate(some)
                    ],
                )
            retriable += _retriable(answer.get("Failed", []), some)
        return retriable

    async def counts(self) -> QueueCounts:
        """See `Queue.counts`."""
        async with self._translated("be found"):
            answer = await self._client.get_queue_attributes(
                QueueUrl=await self._find(),
                AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
            )
        found = answer["Attributes"]
        return QueueCounts(
            visible=int(found["ApproximateNumberOfMessages"]),
            hidden=int(found["ApproximateNumberOfMessagesNotVisible"]),
        )

    async def depth(self) -> int:
        """See `Queue.depth`."""
        return (await self.counts()).visible

    async def ping(self) -> None:
        """See `Queue.ping`."""
        await self.depth()

    async def _find(self) -> str:
        if self._url is None:
            self._url = await self._look_up()
        return self._url

    async def _look_up(self) -> str:
        if self._name_or_url.startswith(("http://", "https://")):
            return self._name_or_url
        return (await self._client.get_queue_url(QueueName=self._name_or_url))["QueueUrl"]

    @asynccontextmanager
    async def _translated(self, doing: str) -> AsyncIterator[None]:
        try:
            async with deadlines.timeout():
                yield
        except (BotoCoreError, ClientError, OSError) as error:
            raise unavailable(
                error, "queue", f"{self._name_or_url}: {doing}", "SYNTHESIS_QUEUE, EVENTS_QUEUE"
            ) from error


def _is_wrong_parameter(error: ClientError) -> bool:
    """Return whether the queue refuses what was sent, under any name of that error."""
    return error_code(error) in {"InvalidParameterValue", "InvalidParameterValueException", "UnsupportedOperation"}


def _retriable(failures: "Sequence[BatchResultErrorEntryTypeDef]", receipts: Sequence[str]) -> list[str]:
    """Return the receipts that failed by the queue's own fault; the others are no longer the receiver's."""
    for failure in failures:
        if failure["SenderFault"]:
            log.warning("message is no longer held", code=failure["Code"], reason=failure.get("Message"))
    return [receipts[int(failure["Id"])] for failure in failures if not failure["SenderFault"]]


def _tens(receipts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (receipts[start : start + BATCH] for start in range(0, len(receipts), BATCH))


def _message(raw: "MessageTypeDef") -> Message:
    return Message(
        id=raw["MessageId"],
        body=raw["Body"],
        receipt=raw["ReceiptHandle"],
        receive_count=int(raw["Attributes"]["ApproximateReceiveCount"]),
    )
