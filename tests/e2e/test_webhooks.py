"""A webhook through all processes, from the request to a receiver on localhost that verifies it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.e2e.client import Client, recording
from tests.e2e.stack import Stack, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("deployed"),
    pytest.mark.parametrize("stack", ["open"], indirect=True),
]


@contextmanager
def receiver(secret: str, statuses: list[int]) -> Iterator[tuple[str, list[Any]]]:
    """Respond with these statuses and repeat the last one.  Yield the URL and the verified messages."""
    received: list[Any] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(Webhook(secret).verify(body, dict(self.headers)))
            self.send_response(statuses[min(len(received), len(statuses)) - 1])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_webhook_retried_until_accepted(stack: Stack, client: Client) -> None:
    secret = stack.run_keys("webhook-secret")
    with receiver(secret, [500, 204]) as (url, received):
        form = {"response_text": "Hello.", "webhook_url": url}
        answer = client.request(
            "POST", "/preview", data=form, files={"audio": recording(120)}, headers={"Prefer": "respond-async"}
        )
        assert answer.status_code == 202, answer.text
        wait_until(lambda: len(received) == 2, "two deliveries", 30)
    assert received[0] == received[1]
    assert received[0]["type"] == "tts_complete"
    assert received[0]["data"]["job_id"] == answer.json()["job_id"]
    assert client.get(received[0]["data"]["audio_url"]).status_code == 200
    assert "webhook_error" not in client.get(f"/jobs/{answer.json()['job_id']}").json()
