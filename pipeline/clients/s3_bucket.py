"""A bucket of S3, or of a storage that is compatible with it."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from aiohttp import ClientPayloadError as BrokenOff  # aiobotocore does not wrap it when a body ends early
from botocore.exceptions import BotoCoreError, ClientError

from pipeline import deadlines
from pipeline.clients.failures import unavailable
from pipeline.clients.storage import ObjectInfo, PreconditionFailed, RangeNotSatisfiable, StoredObject, UploadForm
from pipeline.errors import Unavailable

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

# S3 returns 409 for conflicting concurrent writes. The request has to be retried.
_CONFLICTS = 5


class S3Bucket:
    """A bucket of S3 or of a compatible storage that supports conditional writes."""

    def __init__(self, client: "S3Client", name: str) -> None:
        self._client = client
        self.name = name

    async def get(self, key: str) -> bytes | None:
        """See `Bucket.get`."""
        stored = await self.read(key)
        return stored.body if stored else None

    async def read(
        self,
        key: str,
        *,
        range_: str | None = None,
        if_match: str | None = None,
    ) -> StoredObject | None:
        """See `Bucket.read`."""
        conditions: dict[str, Any] = {"Range": range_, "IfMatch": if_match}
        async with self._translated(f"read {key}"):
            try:
                answer = await self._client.get_object(
                    Bucket=self.name, Key=key, **{k: v for k, v in conditions.items() if v is not None}
                )
                async with answer["Body"] as stream:
                    body = await stream.read()
            except ClientError as error:
                _raise_condition(error)
                return None
        content_range = answer.get("ContentRange")
        return StoredObject(
            body=body,
            etag=answer["ETag"],
            last_modified=answer["LastModified"],
            content_type=answer["ContentType"],
            size=int(content_range.rsplit("/", 1)[1]) if content_range else len(body),
            content_range=content_range,
            metadata=answer["Metadata"],
        )

    async def head(self, key: str) -> ObjectInfo | None:
        """See `Bucket.head`."""
        async with self._translated(f"look up {key}"):
            try:
                answer = await self._client.head_object(Bucket=self.name, Key=key)
            except ClientError as error:
                _raise_condition(error)
                return None
        return ObjectInfo(key, answer["ContentLength"], answer["LastModified"], answer["ETag"])

    async def put(self, key: str, body: bytes, content_type: str) -> None:
        """See `Bucket.put`."""
        async with self._translated(f"write {key}"):
            await self._client.put_object(Bucket=self.name, Key=key, Body=body, ContentType=content_type)

    async def put_once(
        self, key: str, body: bytes, content_type: str, *, metadata: Mapping[str, str] | None = None
    ) -> str | None:
        """See `Bucket.put_once`."""
        return await self._put_if(key, body, content_type, IfNoneMatch="*", Metadata=metadata or {})

    async def replace(self, key: str, body: bytes, content_type: str, *, etag: str) -> str | None:
        """See `Bucket.replace`."""
        return await self._put_if(key, body, content_type, IfMatch=etag)

    async def _put_if(self, key: str, body: bytes, content_type: str, **condition: Any) -> str | None:
        async with self._translated(f"write {key}"):
            for _ in range(_CONFLICTS):
                try:
                    answer = await self._client.put_object(
                        Bucket=self.name, Key=key, Body=body, ContentType=content_type, **condition
                    )
                except ClientError as error:
                    # The response to If-Match on an object that has been deleted meanwhile is 404.
                    if _status(error) in {404, 412} and _code(error) != "NoSuchBucket":
                        return None
                    if _code(error) != "ConditionalRequestConflict":
                        raise
                else:
                    return answer["ETag"]
        raise Unavailable(f"Too many write {key} at the same moment.")

    async def delete(self, keys: Iterable[str]) -> None:
        """See `Bucket.delete`."""
        for some in _batches(keys, 1000):
            async with self._translated(f"delete {some[0]} and {len(some) - 1} more"):
                answer = await self._client.delete_objects(
                    Bucket=self.name, Delete={"Objects": [{"Key": key} for key in some], "Quiet": True}
                )
            if problems := answer.get("Errors"):
                raise Unavailable(f"The storage could not delete {len(problems)} objects.")

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """See `Bucket.list`."""
        async for page in self._pages(Prefix=prefix, StartAfter=start_after):
            for item in page.get("Contents", []):
                yield ObjectInfo(item["Key"], item["Size"], item["LastModified"], item["ETag"])

    async def list_folders(self, prefix: str, *, start_after: str = "") -> AsyncIterator[str]:
        """See `Bucket.list_folders`."""
        async for page in self._pages(Prefix=prefix, StartAfter=start_after, Delimiter="/"):
            for item in page.get("CommonPrefixes", []):
                yield item["Prefix"].removeprefix(prefix).rstrip("/")

    async def _pages(self, **how: Any) -> AsyncIterator[Any]:
        pages = aiter(self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, **how))
        while True:
            async with self._translated(f"list {how['Prefix']}"):  # each call: a caller may pause in between
                page = await anext(pages, None)
            if page is None:
                return
            yield page

    async def presign_post(self, key: str, *, content_type: str, max_bytes: int, lifetime: timedelta) -> UploadForm:
        """See `Bucket.presign_post`."""
        async with self._translated(f"sign {key}"):
            signed = await self._client.generate_presigned_post(
                self.name,
                key,
                Fields={"Content-Type": content_type},
                Conditions=[{"Content-Type": content_type}, ["content-length-range", 1, max_bytes]],
                ExpiresIn=int(lifetime.total_seconds()),
            )
        return UploadForm(signed["url"], signed["fields"])

    async def presign_get(self, key: str, *, lifetime: timedelta, content_type: str, disposition: str) -> str:
        """See `Bucket.presign_get`."""
        described = {"ResponseContentType": content_type, "ResponseContentDisposition": disposition}
        async with self._translated(f"sign {key}"):
            return await self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self.name, "Key": key, **described},
                ExpiresIn=int(lifetime.total_seconds()),
            )

    async def ping(self) -> None:
        """See `Bucket.ping`."""
        async with self._translated("be found"):
            await self._client.head_bucket(Bucket=self.name)

    @asynccontextmanager
    async def _translated(self, doing: str) -> AsyncIterator[None]:
        try:
            async with deadlines.timeout():
                yield
        except (BotoCoreError, ClientError, BrokenOff, OSError) as error:
            raise unavailable(error, "storage", f"bucket {self.name}: {doing}", "BUCKET, VOICES_BUCKET") from error


def _batches(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for key in keys:
        batch.append(key)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _raise_condition(error: ClientError) -> None:
    """Return if the object does not exist. Otherwise raise the error that it means."""
    match _status(error):
        case 404 if _code(error) != "NoSuchBucket":
            return
        case 412:
            raise PreconditionFailed from error
        case 416:
            raise RangeNotSatisfiable from error
    raise error


def _status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]
