"""Patches ministack's S3 so that the cost of a listing depends on its result, not on all objects.

ministack compares the prefix with all keys of the bucket, and sorts those that match, for every page.
"""

from bisect import bisect_left, insort
from collections import UserDict
from typing import Any

LAST_CHARACTER = "\U0010ffff"

Entries = tuple[list[str], list[str], bool, str]


class OrderedObjects(UserDict[str, Any]):
    """The objects of a bucket, with their keys in order."""

    def __init__(self, objects: dict[str, Any]) -> None:
        self.data = objects
        self.ordered_keys = sorted(objects)

    def __setitem__(self, key: str, item: Any) -> None:
        if key not in self.data:
            insort(self.ordered_keys, key)
        self.data[key] = item

    def __delitem__(self, key: str) -> None:
        del self.data[key]
        del self.ordered_keys[bisect_left(self.ordered_keys, key)]


def make_listings_fast(s3: Any) -> None:
    """Patch ministack's module."""

    def find_bucket(name: str) -> Any:
        """Return a bucket or None. Its keys are ordered from its first use."""
        bucket = s3._buckets.get(name)
        if bucket is not None and not isinstance(bucket["objects"], OrderedObjects):
            bucket["objects"] = OrderedObjects(bucket["objects"])
        return bucket

    s3._ensure_bucket = find_bucket
    s3._collect_list_entries = list_entries


def list_entries(objects: OrderedObjects, prefix: str, delimiter: str, max_keys: int, start_after: str) -> Entries:
    """Return a page: keys, common prefixes, whether more follow, and the last of the keys and common prefixes."""
    ordered, found, folders, last = objects.ordered_keys, list[str](), list[str](), ""
    at = bisect_left(ordered, max(prefix, start_after))
    while at < len(ordered) and ordered[at].startswith(prefix):
        entry = ordered[at]
        end = entry.find(delimiter, len(prefix)) if delimiter else -1
        if end >= 0:
            entry = entry[: end + len(delimiter)]
            at = bisect_left(ordered, entry + LAST_CHARACTER, at)
        else:
            at += 1
        if entry <= start_after:
            continue
        if len(found) + len(folders) == max_keys:
            return found, folders, True, last
        (folders if end >= 0 else found).append(entry)
        last = entry
    return found, folders, False, last
