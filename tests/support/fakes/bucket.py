"""An in-memory bucket that passes the contract tests of S3."""

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlencode

from pipeline.clients.storage import (
    ObjectInfo,
    PreconditionFailed,
    RangeNotSatisfiable,
    StoredObject,
    UploadForm,
)
from tests.support.fakes.clock import FakeTime
from tests.support.fakes.switch import Switch

METADATA_MAX = 2048  # bytes, of S3


@dataclass(frozen=True, slots=True)
class _Object:
    body: bytes
    content_type: str
    last_modified: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body).hexdigest()}"'


class FakeBucket:
    """An in-memory `pipeline.clients.storage.Bucket`."""

    def __init__(self, time: FakeTime) -> None:
        self._time = time
        self.objects: dict[str, _Object] = {}
        self.switch = Switch()

    async def get(self, key: str) -> bytes | None:
        stored = await self.read(key)
        return stored.body if stored else None

    async def read(
        self,
        key: str,
        *,
        range_: str | None = None,
        if_match: str | None = None,
    ) -> StoredObject | None:
        await self.switch.passed("read")
        found = self.objects.get(key)
        if found is None:
            return None
        if if_match is not None and if_match != found.etag:
            raise PreconditionFailed
        first, last = _span(range_, len(found.body)) if range_ else (0, len(found.body) - 1)
        return StoredObject(
            body=found.body[first : last + 1],
            etag=found.etag,
            last_modified=found.last_modified,
            content_type=found.content_type,
            size=len(found.body),
            content_range=f"bytes {first}-{last}/{len(found.body)}" if range_ else None,
            metadata=found.metadata,
        )

    async def head(self, key: str) -> ObjectInfo | None:
        await self.switch.passed("head")
        return self._info(key) if key in self.objects else None

    async def put(self, key: str, body: bytes, content_type: str) -> None:
        await self.switch.passed("put")
        self._write(key, body, content_type)

    async def put_once(
        self, key: str, body: bytes, content_type: str, *, metadata: Mapping[str, str] | None = None
    ) -> str | None:
        await self.switch.passed("put_once")
        assert (
            sum(len(f"{name}{value}".encode("ascii")) for name, value in (metadata or {}).items()) <= METADATA_MAX
        )
        return None if key in self.objects else self._write(key, body, content_type, metadata or {})

    async def replace(self, key: str, body: bytes, content_type: str, *, etag: str) -> str | None:
        await self.switch.passed("replace")
        found = self.objects.get(key)
        return self._write(key, body, content_type) if found and found.etag == etag else None

    async def delete(self, keys: Iterable[str]) -> None:
        await self.switch.passed("delete")
        for key in keys:
            self.objects.pop(key, None)

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        await self.switch.passed("list")
        for key in sorted(self.objects):
            if key.startswith(prefix) and key > start_after:
                yield self._info(key)

    async def list_folders(self, prefix: str, *, start_after: str = "") -> AsyncIterator[str]:
        await self.switch.passed("list_folders")
        seen = set[str]()
        for key in sorted(self.objects):
            name, slash, _ = key.removeprefix(prefix).partition("/")
            if key.startswith(prefix) and key > start_after and slash and name not in seen:
                seen.add(name)
                yield name

    async def presign_post(self, key: str, *, content_type: str, max_bytes: int, lifetime: timedelta) -> UploadForm:
        await self.switch.passed("presign_post")
        expires = self._time() + lifetime
        fields = {"key": key, "Content-Type": content_type, "max_bytes": str(max_bytes)}
        return UploadForm("http://fake/", fields | {"expires": expires.isoformat()})

    async def presign_get(self, key: str, *, lifetime: timedelta, content_type: str, disposition: str) -> str:
        await self.switch.passed("presign_get")
        query = {"expires": (self._time() + lifetime).isoformat(), "type": content_type, "as": disposition}
        return f"http://fake/{key}?{urlencode(query)}"

    async def ping(self) -> None:
        await self.switch.passed("ping")

    def _write(self, key: str, body: bytes, content_type: str, metadata: Mapping[str, str] | None = None) -> str:
        self.objects[key] = _Object(body, content_type, self._time().replace(microsecond=0), metadata or {})
        return self.objects[key].etag

    def _info(self, key: str) -> ObjectInfo:
        found = self.objects[key]
        return ObjectInfo(key, len(found.body), found.last_modified, found.etag)


def _span(range_: str, size: int) -> tuple[int, int]:
    """Parse `bytes=a-b`, `bytes=a-` or `bytes=-n` (RFC 9110, section 14.1.2) into the first and last byte."""
    first, _, last = range_.removeprefix("bytes=").partition("-")
    if not first:
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last) if last else size - 1, size - 1)
    if start > end:
        raise RangeNotSatisfiable
    return start, end
