"""Object storage: the operations that the pipeline uses."""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

# Content type of every record.
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object to be written."""

    key: str
    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """The metadata of an object."""

    key: str
    size: int
    last_modified: datetime
    etag: str


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """A version of an object, or a delete marker. `version_id` is empty if the storage has no versions."""

    key: str
    version_id: str
    is_latest: bool


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object, or the requested range of it."""

    body: bytes
    etag: str
    last_modified: datetime
    content_type: str
    size: int
    content_range: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UploadForm:
    """The URL and form fields of a presigned POST."""

    url: str
    fields: dict[str, str]


class PreconditionFailed(Exception):
    """The object is not, or is no longer, the version with the given ETag."""


class RangeNotSatisfiable(Exception):
    """The range is outside of the object."""


class Bucket(Protocol):
    """A bucket: every method raises `Unavailable` if the storage does not respond."""

    async def get(self, key: str) -> bytes | None:
        """Return the body of an object, or None if it does not exist."""

    async def read(
        self,
        key: str,
        *,
        range_: str | None = None,
        if_match: str | None = None,
    ) -> StoredObject | None:
        """Return an object with its metadata, or None if it does not exist.

        Raises
        ------
        PreconditionFailed, RangeNotSatisfiable
            As RFC 9110 defines for `If-Match` and `Range`.
        """

    async def head(self, key: str) -> ObjectInfo | None:
        """Return the metadata of an object, or None if it does not exist."""

    async def put(self, key: str, body: bytes, content_type: str) -> None:
        """Write an object, or replace it."""

    async def put_once(
        self, key: str, body: bytes, content_type: str, *, metadata: Mapping[str, str] | None = None
    ) -> str | None:
        """Write an object if it does not exist. Return the new ETag, or None if it exists.

        `metadata` is ASCII, at most 2 KB including its names.
        """

    async def replace(self, key: str, body: bytes, content_type: str, *, etag: str) -> str | None:
        """Replace an object if it has this ETag. Return the new ETag, or None if it does not have it."""

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. Those that do not exist are ignored."""

    def list_versions(self, prefix: str) -> AsyncIterator[ObjectVersion]:
        """List all versions and delete markers under a prefix, in any order."""

    async def delete_versions(self, versions: Iterable[ObjectVersion]) -> None:
        """Delete versions permanently. Those that do not exist are ignored."""

    def list(self, prefix: str, *, start_after: str = "", page_size: int = 1000) -> AsyncIterator[ObjectInfo]:
        """List the objects under a prefix in the order of their keys, with one request per `page_size`."""

    def list_folders(self, prefix: str, *, start_after: str = "") -> AsyncIterator[str]:
        """List the parts of the keys between the prefix and the next `/`, in the order of the keys."""

    async def presign_post(self, key: str, *, content_type: str, max_bytes: int, lifetime: timedelta) -> UploadForm:
        """Return a presigned POST that allows the upload of one object of this key, type and maximum size."""

    async def presign_get(self, key: str, *, lifetime: timedelta, content_type: str, disposition: str) -> str:
        """Return a presigned URL for reading an object with this content type and disposition.

        It expires after its lifetime (in whole seconds), or earlier with the credentials that signed it.
        """

    async def ping(self) -> None:
        """Raise `Unavailable` unless the bucket responds."""
