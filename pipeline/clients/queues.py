"""Message queues: the operations that the pipeline uses."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from pipeline.clients import deadlines
from pipeline.clients.failures import error_code, unavailable

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient
    from types_aiobotocore_sqs.type_defs import BatchResultErrorEntryTypeDef, MessageTypeDef

log = structlog.get_logger(__name__)

# SQS sends and receives at most ten messages per call.
BATCH = 10


@dataclass(frozen=True, slots=True)
class Message:
    """A received message. It belongs to one receiver until its visibility timeout ends."""

    id: str
    body: str
    receipt: str
    receive_count: int


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """The approximate number of messages in a queue: visible ones, and those in flight."""

    visible: int
    hidden: int


class Queue(Protocol):
    """A queue that delivers at least once, in any order. Every method raises `Unavailable` if it fails."""

    async def send(self, body: str, *, group: str | None = None) -> None:
        """Send a message. A large number of messages of one group does not delay those of another."""

    async def receive(self, limit: int, *, wait_seconds: int) -> Sequence[Message]:
        """Receive up to `limit` messages (at most `BATCH` per call), waiting for the first."""

    async def delete(self, receipts: Sequence[str]) -> Sequence[str]:
        """Delete messages. Return the receipts of those that should be retried."""

    async def hide(self, receipts: Sequence[str], seconds: int) -> Sequence[str]:
        """Hide messages from other receivers for this many seconds. 0 makes them visible again.

        Returns
        -------
        The receipts of those that should be retried.
        """

    async def counts(self) -> QueueCounts:
        """Return the approximate numbers of messages."""

    async def depth(self) -> int:
        """Return the approximate number of visible messages."""

    async def ping(self) -> None:
        """Raise `Unavailable` unless the queue responds."""


class SqsQueue:
    """A queue of SQS or of a compatible service."""

    def __init__(self, client: "SQSClient", name_or_url: str) -> None:
        self._client = client
        self._name_or_url = name_or_url
        self._url: str | None = None
        self._takes_groups = True

    async def send(self, body: str, *, group: str | None = None) -> None:
        """See `Queue.send`.

        A standard queue uses the group for fairness, not for order.  Compatible services may support groups in FIFO
        queues only: for those the group is omitted.
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
                log.warning("the queue does not support message groups, so an owner can delay others", queue=url)

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
                error, "queue", f"{self._name_or_url}: {doing}", "SYNTHESIS_QUEUE, EVENTS_QUEUE, WEBHOOKS_QUEUE"
            ) from error


def _is_wrong_parameter(error: ClientError) -> bool:
    """Return whether the queue rejected a parameter, under any of the codes of that error."""
    return error_code(error) in {"InvalidParameterValue", "InvalidParameterValueException", "UnsupportedOperation"}


# LocalStack reports these of a batch without `SenderFault`.
_SENDER_FAULTS = {"InvalidParameterValueException", "MessageNotInflight", "ReceiptHandleIsInvalid"}


def _retriable(failures: "Sequence[BatchResultErrorEntryTypeDef]", receipts: Sequence[str]) -> list[str]:
    """Return the receipts that failed with a server error. The others no longer belong to the receiver."""
    retriable = []
    for failure in failures:
        if failure["SenderFault"] or failure["Code"] in _SENDER_FAULTS:
            log.warning("message is no longer held", code=failure["Code"], reason=failure.get("Message"))
        else:
            retriable.append(receipts[int(failure["Id"])])
    return retriable


def _tens(receipts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (receipts[start : start + BATCH] for start in range(0, len(receipts), BATCH))


def _message(raw: "MessageTypeDef") -> Message:
    return Message(
        id=raw["MessageId"],
        body=raw["Body"],
        receipt=raw["ReceiptHandle"],
        receive_count=int(raw["Attributes"]["ApproximateReceiveCount"]),
    )
