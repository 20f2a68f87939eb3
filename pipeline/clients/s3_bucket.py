"""A bucket of S3, or of a storage that is compatible with it."""

import asyncio
import base64
import hashlib
import random
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from aiohttp import ClientPayloadError as BrokenOff  # aiobotocore does not wrap it when a body ends early
from botocore.exceptions import BotoCoreError, ClientError, ResponseStreamingError

from pipeline.clients import deadlines
from pipeline.clients.failures import unavailable
from pipeline.clients.storage import (
    ObjectInfo,
    ObjectVersion,
    PreconditionFailed,
    RangeNotSatisfiable,
    StoredObject,
    UploadForm,
)
from pipeline.errors import Unavailable

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import ObjectIdentifierTypeDef

T = TypeVar("T")

# S3 returns 409 for conflicting concurrent writes. The request has to be retried.
_CONFLICTS = 5
# botocore does not repeat a request when the body of its response ends early.
_READS, _READ_PAUSE_SECONDS = 3, 0.5


class S3Bucket:
    """A bucket of S3 or of a compatible storage that supports conditional writes."""

    def __init__(self, client: "S3Client", name: str, *, sends_md5: bool = False) -> None:
        self._client = client
        self.name = name
        self._sends_md5 = sends_md5  # required by buckets with Object Lock

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
        conditions = {"Range": range_, "IfMatch": if_match}
        given = {name: value for name, value in conditions.items() if value is not None}
        async with self._translated(f"read {key}"):
            for _ in range(_READS - 1):
                try:
                    return await self._read(key, given)
                except (BrokenOff, ResponseStreamingError):
                    await asyncio.sleep(random.uniform(0, _READ_PAUSE_SECONDS))  # noqa: S311 - no secret
            return await self._read(key, given)

    async def _read(self, key: str, conditions: Mapping[str, Any]) -> StoredObject | None:
        try:
            answer = await self._client.get_object(Bucket=self.name, Key=key, **conditions)
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
        if self._sends_md5:
            condition["ContentMD5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
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
        await self._delete({"Key": key} for key in keys)

    async def list_versions(self, prefix: str) -> AsyncIterator[ObjectVersion]:
        """See `Bucket.list_versions`."""
        try:
            async for page in self._pages("list_object_versions", Prefix=prefix):
                for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                    yield ObjectVersion(item["Key"], item["VersionId"], item["IsLatest"])
        except Unavailable as error:
            if not isinstance(error.__cause__, ClientError) or _code(error.__cause__) != "NotImplemented":
                raise
            async for info in self.list(prefix):
                yield ObjectVersion(info.key, "", is_latest=True)

    async def delete_versions(self, versions: Iterable[ObjectVersion]) -> None:
        """See `Bucket.delete_versions`."""
        await self._delete(
            {"Key": one.key, "VersionId": one.version_id} if one.version_id else {"Key": one.key}
            for one in versions
        )

    async def _delete(self, objects: Iterable["ObjectIdentifierTypeDef"]) -> None:
        for some in _batches(objects, 1000):
            async with self._translated(f"delete {some[0]['Key']} and {len(some) - 1} more"):
                answer = await self._client.delete_objects(
                    Bucket=self.name, Delete={"Objects": some, "Quiet": True}
                )
            if problems := [error for error in answer.get("Errors", []) if error.get("Code") != "NoSuchVersion"]:
                raise Unavailable(f"The storage could not delete {len(problems)} objects.")

    async def list(self, prefix: str, *, start_after: str = "", page_size: int = 1000) -> AsyncIterator[ObjectInfo]:
        """See `Bucket.list`."""
        paging = {"PageSize": page_size}
        pages = self._pages("list_objects_v2", Prefix=prefix, StartAfter=start_after, PaginationConfig=paging)
        async for page in pages:
            for item in page.get("Contents", []):
                yield ObjectInfo(item["Key"], item["Size"], item["LastModified"], item["ETag"])

    async def list_folders(self, prefix: str, *, start_after: str = "") -> AsyncIterator[str]:
        """See `Bucket.list_folders`."""
        async for page in self._pages("list_objects_v2", Prefix=prefix, StartAfter=start_after, Delimiter="/"):
            for item in page.get("CommonPrefixes", []):
                yield item["Prefix"].removeprefix(prefix).rstrip("/")

    async def _pages(
        self, operation: Literal["list_objects_v2", "list_object_versions"], **how: Any
    ) -> AsyncIterator[Any]:
        pages = aiter(self._client.get_paginator(operation).paginate(Bucket=self.name, **how))
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


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while batch := list(islice(left, size)):
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
