"""Objects that the embedded storage loads from its files when it starts."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.embedded_store import Store, running_store

BUCKET = "voices"
LONG = "fingerprints/" + 240 * "a"  # longer than the names of ministack's files
BODIES = {"voices/ü nova/a.json": b"{}", "plain": b"1", LONG: b"", "tagged": b"2", "without-sidecar": b"3"}


def folder_of(store: Store) -> Path:
    return next(store.folder.glob("*")) / BUCKET


def bodies_in(client: Any) -> dict[str, bytes]:
    found = client.list_objects_v2(Bucket=BUCKET)["Contents"]
    return {item["Key"]: client.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read() for item in found}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with objects, and with what an interrupted process leaves."""
    data = tmp_path_factory.mktemp("store")
    with running_store(data) as store:
        client = store.client("s3")
        client.create_bucket(Bucket=BUCKET)
        for key, body in BODIES.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata={"report": "x"})
        client.put_object_tagging(Bucket=BUCKET, Key="tagged", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
        folder = folder_of(store)
    (folder / "without-sidecar.meta.json").unlink()
    (folder / "only-sidecar.meta.json").write_text("{}")
    (folder / "unfinished.tmp").write_bytes(b"x")
    (folder / "empty" / "inner").mkdir(parents=True)
    return data


def test_objects_after_restart(data: Path) -> None:
    with running_store(data) as store:
        client, folder = store.client("s3"), folder_of(store)
        assert bodies_in(client) == BODIES
        for key in BODIES.keys() - {"without-sidecar"}:
            assert client.head_object(Bucket=BUCKET, Key=key)["Metadata"] == {"report": "x"}
        assert client.get_object_tagging(Bucket=BUCKET, Key="tagged")["TagSet"] == [{"Key": "a", "Value": "b"}]
        assert not (folder / "unfinished.tmp").exists()
        assert not (folder / "empty").exists()
        client.delete_object(Bucket=BUCKET, Key=LONG)
        client.put_object(Bucket=BUCKET, Key="later", Body=b"4")
        assert list(bodies_in(client)) == sorted({*BODIES, "later"} - {LONG})
