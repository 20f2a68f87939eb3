"""Listings of the embedded S3 in the order of the keys."""

import random
from types import SimpleNamespace
from typing import Any

import pytest
from embedded.storage.ordered_keys import OrderedObjects, list_entries, make_listings_fast

NAMES = ("a", "b", "nova", "nova-2", "nova/x", "é", "0", "~")


def expected(keys: set[str], prefix: str, delimiter: str, limit: int, start_after: str) -> Any:
    """Return the page that a search through all keys gives."""
    entries = dict[str, bool]()
    for key in sorted(keys):
        if key.startswith(prefix):
            name, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key[len(prefix) :], "", "")
            entries[prefix + name + found] = bool(found)
    left = [entry for entry in sorted(entries) if entry > start_after]
    page = left[:limit]
    folders = [entry for entry in page if entries[entry]]
    return [entry for entry in page if not entries[entry]], folders, len(left) > limit, page[-1] if page else ""


@pytest.mark.parametrize("seed", range(20))
def test_pages_after_changes(seed: int) -> None:
    chance = random.Random(seed)
    objects = OrderedObjects({"a/b": 1, "nova/x": 1})
    keys = set(objects)
    for _ in range(200):
        key = "/".join(chance.choices(NAMES, k=chance.randint(1, 4)))
        if chance.random() < 0.4:
            objects.pop(key, None)
            keys.discard(key)
        else:
            objects[key] = 1
            keys.add(key)
        prefix = key[: chance.randint(0, len(key))]
        start_after = chance.choice(["", key, prefix, key + "/", chance.choice(NAMES)])
        asked = (prefix, chance.choice(["", "/"]), chance.randint(0, 5), start_after)
        assert list_entries(objects, *asked) == expected(keys, *asked)
    assert set(objects) == keys


def test_bucket_is_ordered_at_first_use() -> None:
    bucket = {"objects": {"b": 1, "a": 2}}
    s3 = SimpleNamespace(_buckets={"one": bucket})
    make_listings_fast(s3)
    assert s3._ensure_bucket("two") is None
    assert s3._ensure_bucket("one") is bucket
    del bucket["objects"]["b"]
    bucket["objects"]["c"] = 3
    assert s3._collect_list_entries(s3._ensure_bucket("one")["objects"], "", "", 9, "")[0] == ["a", "c"]
