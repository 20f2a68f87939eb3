"""Neighbours that note what is asked of them, in the words of IAM."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from pipeline.clients.resources import Resources
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
class Deed:
    """What was done to what: `bucket/key`, the prefix of a listing, the name of a queue."""

    action: str
    target: str

    def is_within(self, action: str, pattern: str) -> bool:
        """Return whether a statement with this action and pattern allows it."""
        return self.action == action and fnmatchcase(self.target, pattern)


@dataclass(slots=True)
class Watch:
    """Who watches a `Resources`."""

    deeds: set[Deed] = field(default_factory=set)
    absences: set[Deed] = field(default_factory=set)
    """Who reads has to be told what is not there, which S3 does only for those who may list."""

    def over(self, resources: Resources) -> Resources:
        """Return the same resources, watched."""
        return replace(
            resources,
            bucket=_Watched(resources.bucket, self._bucket("EphemeralBucket")),
            voices=_Watched(resources.voices, self._bucket("VoicesBucket")),
            synthesis=_Watched(resources.synthesis, self._queue("SynthesisArn")),
            synthesis_dead_letters=_Watched(resources.synthesis_dead_letters, self._queue("SynthesisDeadArn")),
            events=_Watched(resources.events, self._queue("EventsArn")),
            webhooks=_Watched(resources.webhooks, self._queue("WebhooksArn")),
            connections=_WatchedConnections(resources.connections, self.deeds),
        )

    def _bucket(self, name: str) -> "Note":
        def note(method: str, first: Any) -> None:
            if method == "delete":
                self.deeds |= {Deed("s3:DeleteObject", f"{name}/{key}") for key in first}
            elif method in S3:
                self.deeds.add(Deed(S3[method], f"{name}/{first}"))
                if S3[method] == "s3:GetObject":
                    self.absences.add(Deed("s3:ListBucket", f"{name}/{first}"))
            else:
                assert method == "ping", f"{method} is not known here: say which action it is"

        return note

    def _queue(self, name: str) -> "Note":
        return lambda method, _: self.deeds.add(Deed(SQS[method], name))


Note = Callable[[str, Any], None]


class _Watched:
    """Anything, with a note made of each call."""

    def __init__(self, inner: object, note: Note) -> None:
        self._inner = inner
        self._note = note

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(first: Any = None, *rest: Any, **more: Any) -> Any:
            if name == "delete" and isinstance(first, Iterable):
                first = list(first)
            self._note(name, first)
            return method(*(() if first is None else (first,)), *rest, **more)

        return call


class _WatchedConnections:
    def __init__(self, inner: Any, deeds: set[Deed]) -> None:
        self._inner = inner
        self._deeds = deeds

    async def post(self, to: ReplyTo, body: bytes) -> None:
        self._deeds.add(Deed("execute-api:ManageConnections", "POST"))
        await self._inner.post(to, body)

    async def close(self, to: ReplyTo) -> None:
        self._deeds.add(Deed("execute-api:ManageConnections", "DELETE"))
        await self._inner.close(to)
