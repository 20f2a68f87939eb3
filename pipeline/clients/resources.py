"""Construction of a process's clients of external services from its settings."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import aioboto3
from aiobotocore.config import AioConfig
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import NoCredentialsError
from botocore.utils import determine_content_length, parse_timestamp

from pipeline.clients.connections import ApiGatewayConnections, Connections
from pipeline.clients.presigned_urls import PathSigner
from pipeline.clients.queues import Queue, SqsQueue
from pipeline.clients.s3_bucket import S3Bucket
from pipeline.clients.storage import Bucket
from pipeline.clients.usage_windows import UsageWindows
from pipeline.contract.records import Source
from pipeline.errors import Unavailable
from pipeline.ids import Clock, NewId, id_maker, utc_now
from pipeline.settings import Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_SMALL_BODY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Resources:
    """The dependencies of rules and handlers. Tests pass replacements."""

    settings: Settings
    clock: Clock
    new_id: NewId
    bucket: Bucket
    voices: Bucket
    audit: Bucket
    synthesis: Queue
    synthesis_dead_letters: Queue
    events: Queue
    webhooks: Queue
    connections: Connections
    usage: UsageWindows
    decoding: asyncio.Semaphore
    """Held while a recording is decoded, to bound the use of memory."""
    path_signer: PathSigner | None = None
    """Signs links that the API serves itself, or None if links are URLs of the storage."""

    def bucket_of(self, source: Source) -> Bucket:
        """Return the bucket that holds the source's reference."""
        return self.voices if source.session_id is None else self.bucket


@asynccontextmanager
async def connect(settings: Settings, clock: Clock = utc_now) -> AsyncIterator[Resources]:
    """Open the clients that the settings describe, for the lifetime of the context."""
    session = session_for(settings)
    config = client_config()
    async with AsyncExitStack() as stack:
        s3 = await stack.enter_async_context(
            session.client(
                "s3",
                endpoint_url=settings.endpoint_for("s3"),
                config=config.merge(AioConfig(signature_version="s3v4")),
            )
        )
        resolve_endpoint_once(s3)
        send_small_bodies_at_once(s3)
        sqs = await stack.enter_async_context(
            session.client("sqs", endpoint_url=settings.endpoint_for("sqs"), config=config)
        )
        bucket = S3Bucket(s3, settings.bucket)
        yield Resources(
            settings=settings,
            clock=clock,
            new_id=id_maker(clock),
            bucket=bucket,
            voices=S3Bucket(s3, settings.bucket_for_voices),
            audit=S3Bucket(s3, settings.bucket_for_audit, sends_md5=True),
            synthesis=SqsQueue(sqs, settings.synthesis_queue),
            synthesis_dead_letters=SqsQueue(sqs, settings.synthesis_dead_letter_queue),
            events=SqsQueue(sqs, settings.events_queue),
            webhooks=SqsQueue(sqs, settings.webhooks_queue),
            connections=ApiGatewayConnections(session, config, stack),
            usage=UsageWindows(bucket, clock),
            decoding=asyncio.Semaphore(settings.decodes_at_once),
            path_signer=await _path_signer(session, clock) if settings.serves_links else None,
        )


async def _path_signer(session: aioboto3.Session, clock: Clock) -> PathSigner:
    credentials = await session.get_credentials()  # type: ignore[misc]  # the stubs declare it as not awaitable
    if credentials is None:
        raise Unavailable("There are no AWS credentials to sign links with.")
    return PathSigner((await credentials.get_frozen_credentials()).secret_key, clock)


def session_for(settings: Settings) -> aioboto3.Session:
    """Create the session that all clients are created from."""
    session = aioboto3.Session(region_name=settings.aws_region)
    session._session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)
    return session


def parse_time(value: Any) -> datetime:
    """Parse a time of a response. dateutil, which botocore uses, takes two thirds of the time of a listing."""
    for parse in (datetime.fromisoformat, parsedate_to_datetime):  # of listings, and of headers
        with suppress(AttributeError, TypeError, ValueError):
            if (moment := parse(value)).tzinfo is not None:
                return moment
    return parse_timestamp(value)


def current_credentials(settings: Settings) -> Callable[[], Awaitable[ReadOnlyCredentials]]:
    """Return a function that reads the current credentials. Temporary ones are replaced every few hours."""
    session = session_for(settings)

    async def current() -> ReadOnlyCredentials:
        credentials: Any = await session.get_credentials()  # type: ignore[misc]
        if credentials is None:
            raise NoCredentialsError
        frozen: ReadOnlyCredentials = await credentials.get_frozen_credentials()
        return frozen

    return current


def client_config() -> AioConfig:
    """Return the configuration that all clients share.

    Path-style addresses work with every S3-compatible storage.  Checksums are sent only where S3 requires them,
    because other storages reject the newer ones.
    """
    return AioConfig(
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=100,
        retries={"mode": "standard", "total_max_attempts": 3},
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent="voice-cloning-service",  # botocore would build its own twice per call
    )


def resolve_endpoint_once(s3: "S3Client") -> None:
    """Prevent botocore from resolving the endpoint again for every key, which is a fifth of a call's CPU time.

    Key and prefix are parameters of the endpoint rules, and so part of their cache key, but no rule uses them.
    """
    for name in ("Key", "Prefix"):
        s3._ruleset_resolver._param_definitions.pop(name, None)  # type: ignore[attr-defined]


def send_small_bodies_at_once(s3: "S3Client") -> None:
    """Prevent botocore from waiting for `100 Continue` before a small body, which is one more round trip."""
    s3.meta.events.register_last("before-call.s3", _without_expect)


def _without_expect(params: dict[str, Any], **_: object) -> None:
    if "body" in params and (determine_content_length(params["body"]) or 0) < _SMALL_BODY_BYTES:
        params["headers"].pop("Expect", None)
