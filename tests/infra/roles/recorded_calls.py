"""Resources that record their calls as IAM actions."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from pipeline.clients.resources import Resources
from pipeline.clients.usage_windows import UsageWindows
from pipeline.contract.messages.message_batches import AddressedMessage, Undelivered
from pipeline.contract.records import ReplyTo

S3 = {
    "get": "s3:GetObject",
    "read": "s3:GetObject",
    "head": "s3:GetObject",
    "presign_get": "s3:GetObject",
    "put": "s3:PutObject",
    "put_once": "s3:PutObject",
    "replace": "s3:PutObject",
    "presign_post": "s3:PutObject",
    "list": "s3:ListBucket",
    "list_folders": "s3:ListBucket",
    "list_versions": "s3:ListBucketVersions",
}
SQS = {
    "send": "sqs:SendMessage",
    "receive": "sqs:ReceiveMessage",
    "delete": "sqs:DeleteMessage",
    "hide": "sqs:ChangeMessageVisibility",
    "counts": "sqs:GetQueueAttributes",
    "depth": "sqs:GetQueueAttributes",
    "ping": "sqs:GetQueueAttributes",
}


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """An IAM action and its target: `bucket/key`, the prefix of a listing, or the name of a queue."""

    action: str
    target: str

    def is_within(self, action: str, pattern: str) -> bool:
        """Return whether a statement with this action and pattern allows the call."""
        return self.action == action and fnmatchcase(self.target, pattern)


@dataclass(slots=True)
class Recorder:
    """Records the calls of resources."""

    calls: set[RecordedCall] = field(default_factory=set)
    missing_reads: set[RecordedCall] = field(default_factory=set)
    """Reads.  S3 reports a missing object only to callers that may list the bucket."""

    def wrap(self, resources: Resources) -> Resources:
        """Return the same resources, with all calls recorded."""
        bucket: Any = _RecordedClient(resources.bucket, self._bucket("EphemeralBucket"))
        return replace(
            resources,
            bucket=bucket,
            usage=UsageWindows(bucket, resources.clock),
            voices=_RecordedClient(resources.voices, self._bucket("VoicesBucket")),
            audit=_RecordedClient(resources.audit, self._bucket("AuditBucket")),
            synthesis=_RecordedClient(resources.synthesis, self._queue("SynthesisArn")),
            synthesis_dead_letters=_RecordedClient(
                resources.synthesis_dead_letters, self._queue("SynthesisDeadArn")
            ),
            events=_RecordedClient(resources.events, self._queue("EventsArn")),
            webhooks=_RecordedClient(resources.webhooks, self._queue("WebhooksArn")),
            connections=_RecordedConnections(resources.connections, self.calls),
        )

    def _bucket(self, name: str) -> "Record":
        def record(method: str, first: Any) -> None:
            if method == "delete":
                self.calls |= {RecordedCall("s3:DeleteObject", f"{name}/{key}") for key in first}
            elif method == "delete_versions":
                self.calls |= {RecordedCall("s3:DeleteObjectVersion", f"{name}/{version.key}") for version in first}
            elif method in S3:
                self.calls.add(RecordedCall(S3[method], f"{name}/{first}"))
                if S3[method] == "s3:GetObject":
                    self.missing_reads.add(RecordedCall("s3:ListBucket", f"{name}/{first}"))
            else:
                assert method == "ping", f"{method} has no IAM action here"

        return record

    def _queue(self, name: str) -> "Record":
        return lambda method, _: self.calls.add(RecordedCall(SQS[method], name))


Record = Callable[[str, Any], None]


class _RecordedClient:
    """A client whose calls are recorded."""

    def __init__(self, inner: object, record: Record) -> None:
        self._inner = inner
        self._record = record

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(first: Any = None, *rest: Any, **more: Any) -> Any:
            if name in {"delete", "delete_versions"} and isinstance(first, Iterable):
                first = list(first)
            self._record(name, first)
            return method(*(() if first is None else (first,)), *rest, **more)

        return call


class _RecordedConnections:
    def __init__(self, inner: Any, calls: set[RecordedCall]) -> None:
        self._inner = inner
        self._calls = calls

    async def post(self, to: ReplyTo, body: bytes) -> None:
        self._calls.add(RecordedCall("execute-api:ManageConnections", "POST"))
        await self._inner.post(to, body)

    async def post_batch(self, endpoint: str, messages: Sequence[AddressedMessage]) -> Undelivered:
        raise AssertionError("API Gateway accepts no batches")

    async def close(self, to: ReplyTo) -> None:
        self._calls.add(RecordedCall("execute-api:ManageConnections", "DELETE"))
        await self._inner.close(to)
