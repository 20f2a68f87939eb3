"""Connections to the embedded store that would hold its time, its memory or its descriptors."""

import contextlib
import resource
import socket
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests.e2e.stack import wait_until
from tests.support.embedded_store import Store, running_store

pytestmark = pytest.mark.xdist_group("store connections")

AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential={key}/{day}/us-east-1/sqs/aws4_request, SignedHeaders=host;x-amz-date, "
    "Signature=" + 64 * "0"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))  # the usual limit of a shell
    with running_store(tmp_path_factory.mktemp("store")) as running:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
        yield running
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(store: Store) -> socket.socket:
    return socket.create_connection(("127.0.0.1", store.port), timeout=20)


def head(store: Store, *lines: str) -> bytes:
    return "\r\n".join(["POST / HTTP/1.1", f"Host: 127.0.0.1:{store.port}", *lines, "", ""]).encode()


def forged(store: Store) -> list[str]:
    """Return headers with the right access key, date and service, and a wrong signature."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    key = store.credentials.access_key_id
    return [f"Authorization: {AUTHORIZATION.format(key=key, day=now[:8])}", f"X-Amz-Date: {now}"]


def status(connection: socket.socket) -> int:
    """Return the status of the response; 0 if the connection ends without one."""
    with contextlib.suppress(ConnectionError):
        return int((connection.recv(4096).split() or [b"", b"0"])[1])
    return 0


def test_store_refuses_before_reading_body(store: Store) -> None:
    for credentials in ([], [forged(store)[0].replace("LOCAL", "OTHER"), forged(store)[1]]):
        with connect(store) as connection:
            connection.sendall(head(store, *credentials, "Content-Length: 1000000"))
            assert status(connection) == 403


def test_store_refuses_tiny_chunks(store: Store) -> None:
    with connect(store) as connection:
        connection.sendall(head(store, *forged(store), "Transfer-Encoding: chunked"))
        before = psutil.Process(store.pid).cpu_times().user
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                connection.sendall(b"1\r\nx\r\n" * 1000)
        assert status(connection) in {0, 400}
    assert psutil.Process(store.pid).cpu_times().user - before < 1.5


@pytest.mark.slow
def test_store_answers_beside_idle_connections(store: Store) -> None:
    idle = [connect(store) for _ in range(2200)]
    try:
        assert httpx.get(store.url, timeout=20).status_code == 403
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.slow
def test_store_bounds_unverified_bodies(store: Store) -> None:
    """The bodies of requests with a wrong signature are bounded in total, and their memory returns."""
    process = psutil.Process(store.pid)
    before = process.memory_info().rss
    body = bytes(7 * 2**20)
    senders = [connect(store) for _ in range(60)]
    statuses = []
    try:
        for sender in senders:
            sender.settimeout(5)
            sender.sendall(head(store, *forged(store), f"Content-Length: {len(body) + 1}"))
            with contextlib.suppress(OSError):
                sender.sendall(body)
        assert process.memory_info().rss - before < 120 * 2**20
        sockets = [sender for sender in senders if sender.fileno() >= 0]
        for sender in sockets:
            with contextlib.suppress(OSError):
                statuses.append(status(sender))
    finally:
        for sender in senders:
            sender.close()
    assert 503 in statuses
    wait_until(lambda: process.memory_info().rss - before < 40 * 2**20, "the memory returning")
