"""A running service detects a deleted store, logs it and recreates it."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import boto3
import httpx
import pytest
from embedded import configuration
from embedded.storage.connection_file import read
from embedded.storage.data_folder import read_credentials

from tests.e2e.client import Client
from tests.e2e.stack import ROOT, Stack, running, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("lost store")]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running service whose data folder was world-readable before."""
    data = tmp_path_factory.mktemp("run") / "data"
    data.mkdir(mode=0o755)
    with running(data, {}) as stack:
        yield stack


def client_of(stack: Stack, service: str) -> Any:
    """Return a client that signs with the credentials of the data folder."""
    connection, credentials = read(stack.data), read_credentials(stack.data)
    assert connection is not None
    assert credentials is not None
    session = boto3.Session(credentials.access_key_id, credentials.secret_access_key, region_name=connection.region)
    return session.client(service, endpoint_url=f"http://{configuration.HOST}:{connection.port}")


def delete_bucket(stack: Stack) -> None:
    """Delete the bucket and its objects."""
    s3, bucket = client_of(stack, "s3"), stack.names["BUCKET"]
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=item["Key"])
    s3.delete_bucket(Bucket=bucket)


def delete_queues(stack: Stack) -> None:
    """Delete all queues."""
    sqs = client_of(stack, "sqs")
    for queue in sqs.list_queues()["QueueUrls"]:
        sqs.delete_queue(QueueUrl=queue)


def remove_files(stack: Stack) -> None:
    """Remove the store's files.

    The folder is renamed first: a file written to it during its removal would make the removal fail.
    """
    folder = configuration.s3_folder_of(stack.data)
    shutil.rmtree(folder.rename(stack.data / "removed"))


def test_data_files_are_private(stack: Stack) -> None:
    Client(stack.url, stack.socket_url).preview(120, "Private.")
    kept = [stack.data, *stack.data.rglob("*")]
    assert {path.name for path in kept} >= {"credentials", "store.json", "sample.wav", "s3"}
    open_to_others = [path for path in kept if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    assert open_to_others == []


def test_log_and_command_line_have_no_secret(stack: Stack) -> None:
    credentials = read_credentials(stack.data)
    assert credentials is not None
    assert credentials.secret_access_key not in stack.logged()
    lines = [" ".join(process.cmdline()) for process in stack.children()]
    assert not [line for line in lines if credentials.secret_access_key in line]


def is_wav(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")


def is_logged(stack: Stack, message: str, times: int) -> bool:
    return stack.logged().count(message) >= times


@pytest.mark.parametrize(
    ("lose", "messages"),
    [
        (delete_bucket, ["were removed", "embedded AWS is ready"]),
        (delete_queues, ["are gone"]),
        (remove_files, ["were removed", "embedded AWS is ready"]),
    ],
)
def test_lost_store_is_recreated(stack: Stack, lose: Callable[[Stack], None], messages: list[str]) -> None:
    client = Client(stack.url, stack.socket_url)
    client.preview(120, "Before.")
    times = {message: stack.logged().count(message) for message in messages}
    lose(stack)
    for message in messages:
        wait_until(partial(is_logged, stack, message, 1 + times[message]), message, 30)
    wait_until(lambda: is_wav(client.preview(120, "After.")), "the service to work again", 60)


def test_credentials_survive_restart(stack: Stack) -> None:
    before = read_credentials(stack.data)
    stack.interrupt()
    stack.start()
    assert read_credentials(stack.data) == before


def test_provision_finds_running_store(stack: Stack) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "localstack" / "provision.py")],
        env={**os.environ, **stack.names, "DATA_DIR": str(stack.data)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
