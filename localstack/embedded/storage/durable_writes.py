"""Patches ministack's S3 so that a request succeeds only if its changes are on the disk.

ministack keeps the metadata of objects in memory and writes objects to files.  If a write fails, it logs a warning
and responds with success.  With this patch, such a request fails with 507 (no space) or 500, sends no events, and
leaves the object as it is on the disk.  Files are written completely under a temporary name and then renamed.
"""

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ministack.services import s3

from embedded.storage.atomic_files import sidecar_of, write_files
from embedded.storage.empty_folders import remove_empty_parents
from embedded.storage.key_paths import other_path_of, path_of, root_of

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
PROBE_BYTES = 1024 * 1024
RESERVE_BYTES, RELEASED_BYTES = 512 * 1024, 16 * 1024

Response = tuple[int, dict[str, Any], Any]


@dataclass(slots=True)
class _Request:
    """The failed file operations of a request, and its events, which are sent if there are none."""

    failures: list[tuple[str, str, OSError]] = field(default_factory=list)
    events: list[Callable[[], None]] = field(default_factory=list)


_current: ContextVar[_Request] = ContextVar("request")


class DurableWrites:
    """The patch.

    Parameters
    ----------
    data
        The folder of the objects.
    ephemeral_prefixes
        Objects under these prefixes survive the end of the process, but are not synced to the disk.
    urgent_keys
        Objects whose keys match this pattern may use a small reserve of space: for example, records of deletions.
    """

    def __init__(self, data: Path, ephemeral_prefixes: Collection[str], urgent_keys: str) -> None:
        self._data = data
        self._ephemeral_prefixes = tuple(ephemeral_prefixes)
        self._urgent_keys = re.compile(urgent_keys)
        self._reserve = data / "reserve"
        self._probe_bytes = PROBE_BYTES
        self._handle = s3.handle_request
        s3.handle_request = self.handle_request
        s3._fire_s3_event_async = _send_event_later
        s3._parse_notification_config_raw = lru_cache(s3._parse_notification_config_raw)
        s3._persist_object = self._write_object
        s3._delete_persisted_object = self._delete_object
        s3._read_body = _read_body

    async def handle_request(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any], **more: Any
    ) -> Response:
        """Handle a request as ministack does, and undo it if a file operation fails."""
        bucket, key = s3._parse_bucket_key(path, headers)
        if method == "HEAD" and bucket and not key and (error := self._probe()):
            return _error(error)  # the health checks of the clients
        request = _Request()
        upload_id = s3._qp(query, "uploadId")
        upload = s3._multipart_uploads.get(upload_id)
        token = _current.set(request)
        try:
            response: Response = await self._handle(method, path, headers, body, query, **more)
        except OSError as error:
            request.failures.append((bucket, key, error))
        finally:
            _current.reset(token)
        if not request.failures:
            for send in request.events:
                send()
            return response
        self._undo(request)
        if upload is not None:
            s3._completed_multipart_uploads.pop(upload_id, None)
            s3._multipart_uploads[upload_id] = upload
        self._probe_bytes = max(self._probe_bytes, len(body))
        return _error(request.failures[0][2])

    def _undo(self, request: _Request) -> None:
        for bucket, key, error in request.failures:
            s3.logger.error("S3 object %s/%s can't be read, written or deleted: %s", bucket, key, error)
            if not (self._data / s3.get_account_id() / bucket).is_dir():
                s3._buckets.pop(bucket, None)
            elif bucket in s3._buckets and key:
                _reload(bucket, key)

    def _probe(self) -> OSError | None:
        """Write as many bytes as the largest object that could not be written; return the error if it fails."""
        self._fill_reserve()
        try:
            with tempfile.TemporaryFile(dir=self._data, buffering=0) as file:
                left = self._probe_bytes
                while left > 0:
                    left -= file.write(bytes(left)) or 0
        except OSError as error:
            return error
        self._probe_bytes = PROBE_BYTES
        return None

    def _fill_reserve(self) -> None:
        with contextlib.suppress(OSError), self._reserve.open("ab", buffering=0) as file:
            file.write(bytes(max(0, RESERVE_BYTES - file.tell())))

    def _write_object(self, bucket: str, key: str, obj: dict[str, Any]) -> None:
        path = path_of(bucket, key)
        with self._failures_recorded(bucket, key, path):
            meta = {**s3._object_meta_from_record(obj), **s3._key_history_meta(bucket, key), "key": key}
            # An object exists from the moment that its data file does; the sidecar comes first.
            contents = {sidecar_of(path): json.dumps(meta).encode()}
            if obj.get("body") is not None:
                contents[path] = obj["body"]
            try:
                self._write_files(bucket, key, contents)
            except OSError as error:
                if error.errno not in NO_SPACE or not self._urgent_keys.fullmatch(key):
                    raise
                os.truncate(self._reserve, max(0, self._reserve.stat().st_size - RELEASED_BYTES))
                self._write_files(bucket, key, contents)
            s3._remove_key_files(other_path_of(bucket, key, path))
            obj["body"] = None

    def _write_files(self, bucket: str, key: str, contents: dict[Path, bytes]) -> None:
        write_files(contents, root_of(bucket), synced=not key.startswith(self._ephemeral_prefixes))

    def _delete_object(self, bucket: str, key: str) -> None:
        path = path_of(bucket, key)
        with self._failures_recorded(bucket, key, path):
            s3._remove_key_files(str(path))
            s3._remove_key_files(other_path_of(bucket, key, path))
            remove_empty_parents(path, self._data)
            self._fill_reserve()

    @contextlib.contextmanager
    def _failures_recorded(self, bucket: str, key: str, path: Path) -> Iterator[None]:
        """Record a failed file operation, for the request to fail."""
        try:
            yield
        except OSError as error:
            _current.get().failures.append((bucket, key, error))
            remove_empty_parents(path, self._data)


def _send_event_later(bucket: str, key: str, event: str, *args: Any, **named: Any) -> None:
    """Send an event with the response, if a queue receives it. ministack starts a thread for every change."""
    configurations = s3._parse_notification_config(bucket)
    if any(
        s3._event_matches(event, one["events"])
        and s3._key_matches_filter(key, one["filter_prefix"], one["filter_suffix"])
        for one in configurations
    ):
        named["sequencer"] = s3._next_event_sequencer(event)
        _current.get().events.append(partial(s3._fire_s3_event, bucket, key, event, *args, **named))


def _read_body(bucket: str, key: str, obj: dict[str, Any]) -> bytes:
    body: bytes | None = obj.get("body")
    return path_of(bucket, key).read_bytes() if body is None else body


def _reload(bucket: str, key: str) -> None:
    """Load an object from the disk again."""
    s3._buckets[bucket]["objects"].pop(key, None)
    s3._object_versions.pop((bucket, key), None)
    for store in (s3._object_tags, s3._object_acl, s3._object_annotations):
        for name in [name for name in store if name[:2] == (bucket, key)]:
            store.pop(name, None)
    path = path_of(bucket, key)

    def files_of_key(_folder: str, sidecars: bool) -> Iterator[tuple[str, str]]:
        file = sidecar_of(path) if sidecars else path
        if file.is_file():
            yield str(file), key

    list_files, s3._persisted_key_files = s3._persisted_key_files, files_of_key
    try:
        account = s3.get_account_id()
        s3._load_persisted_bucket(account, bucket, str(Path(s3.DATA_DIR, account, bucket)))
    finally:
        s3._persisted_key_files = list_files


def _error(error: OSError) -> Response:
    if error.errno in NO_SPACE:
        response: Response = s3._error("InsufficientStorage", "No space is left for this object.", 507)
    else:
        response = s3._error("InternalError", f"The disk reports: {os.strerror(error.errno or errno.EIO)}.", 500)
    return response
