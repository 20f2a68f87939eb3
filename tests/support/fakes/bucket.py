"""An in-memory bucket that passes the contract tests of S3."""

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlencode

from pipeline.clients.storage import (
    ObjectInfo,
    ObjectVersion,
    PreconditionFailed,
    RangeNotSatisfiable,
    StoredObject,
    UploadForm,
)
from tests.support.fakes.clock import FakeTime
from tests.support.fakes.switch import Switch

METADATA_MAX = 2048  # bytes, of S3
PAGE = 1000  # keys that a request lists or deletes, of S3


@dataclass(frozen=True, slots=True)
class _Object:
    body: bytes
    content_type: str
    last_modified: datetime
    etag: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class FakeBucket:
    """An in-memory `pipeline.clients.storage.Bucket`, with or without versions."""

    def __init__(self, time: FakeTime, *, has_versions: bool = False) -> None:
        self._time = time
        self._has_versions = has_versions
        self.objects: dict[str, _Object] = {}
        self.versions: dict[str, dict[str, _Object | None]] = {}
        """The versions of each key by their ids, oldest first. None: a delete marker."""
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
        for number, key in enumerate(keys):
            if number and number % PAGE == 0:
                await self.switch.passed("delete")
            self._remove(key)
            self._add_version(key, None)

    async def list_versions(self, prefix: str) -> AsyncIterator[ObjectVersion]:
        await self.switch.passed("list_versions")
        for key, versions in sorted(self.versions.items()):
            if key.startswith(prefix):
                for version_id in list(versions):
                    yield ObjectVersion(key, version_id, is_latest=version_id == list(versions)[-1])

    async def delete_versions(self, versions: Iterable[ObjectVersion]) -> None:
        await self.switch.passed("delete_versions")
        for version in versions:
            left = self.versions.get(version.key, {})
            left.pop(version.version_id, None)
            latest = next(reversed(left.values()), None)
            if latest is None:
                self._remove(version.key)
            else:
                self.objects[version.key] = latest
            if not left:
                self.versions.pop(version.key, None)

    async def list(self, prefix: str, *, start_after: str = "", page_size: int = PAGE) -> AsyncIterator[ObjectInfo]:
        for number, key in enumerate(await self._listed("list", prefix, start_after)):
            if number and number % page_size == 0:
                await self.switch.passed("list")
            if key in self.objects:
                yield self._info(key)

    async def list_folders(self, prefix: str, *, start_after: str = "") -> AsyncIterator[str]:
        found = await self._listed("list_folders", prefix, start_after)
        names = dict.fromkeys(
            key.removeprefix(prefix).split("/", 1)[0] for key in found if "/" in key[len(prefix) :]
        )
        for number, name in enumerate(names):
            if number and number % PAGE == 0:
                await self.switch.passed("list_folders")
            yield name

    def _remove(self, key: str) -> None:
        self.objects.pop(key, None)

    async def _listed(self, call: str, prefix: str, start_after: str) -> Iterable[str]:
        await self.switch.passed(call)
        return sorted(key for key in self.objects if key.startswith(prefix) and key > start_after)

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
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        self.objects[key] = _Object(body, content_type, self._time().replace(microsecond=0), etag, metadata or {})
        self._add_version(key, self.objects[key])
        return self.objects[key].etag

    def _add_version(self, key: str, stored: _Object | None) -> None:
        if self._has_versions:
            versions = self.versions.setdefault(key, {})
            versions[f"v{len(versions)}-{self._time().timestamp()}"] = stored
        elif stored is None:
            self.versions.pop(key, None)
        else:
            self.versions[key] = {"null": stored}

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
