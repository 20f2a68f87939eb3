"""A Hugging Face hub with one model on the loopback interface. It can be slow, and it can be down."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

SHA = "0123456789abcdef0123456789abcdef01234567"
CHUNK = 16 * 1024


class FakeHub(ThreadingHTTPServer):
    """The server. `bytes_per_second` limits each file."""

    daemon_threads = True

    def __init__(self, model_id: str, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model_id = model_id
        self.files = files
        self.is_up = True
        self.bytes_per_second = 100e6
        self.ranges: list[str] = []

    @property
    def host(self) -> str:
        """The host and port."""
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        """The value of `HF_ENDPOINT`."""
        return f"http://{self.host}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.server
        path = self.path.partition("?")[0].strip("/")
        if not hub.is_up:
            self.close_connection = True
        elif path.startswith(f"api/models/{hub.model_id}"):
            siblings = [{"rfilename": name, "size": len(body)} for name, body in hub.files.items()]
            self._send({}, json.dumps({"id": hub.model_id, "sha": SHA, "siblings": siblings}).encode())
        elif path.startswith(f"{hub.model_id}/resolve/"):
            body = hub.files[path.split("/", 4)[4]]
            tag = hashlib.sha256(body).hexdigest()
            self._send({"ETag": f'"{tag}"', "X-Repo-Commit": SHA, "Accept-Ranges": "bytes"}, body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

    def _send(self, headers: Mapping[str, str], body: bytes) -> None:
        start = 0
        if wanted := self.headers.get("Range"):
            self.server.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if wanted else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        for at in range(start, len(body), CHUNK):
            if not self.server.is_up:
                self.close_connection = True
                return
            self.wfile.write(body[at : at + CHUNK])
            time.sleep(CHUNK / self.server.bytes_per_second)

    def log_message(self, *_args: object) -> None:
        pass


@contextmanager
def fake_hub(model_id: str, files: Mapping[str, bytes]) -> Iterator[FakeHub]:
    """Serve the files of a model until the context ends."""
    hub = FakeHub(model_id, files)
    serving = Thread(target=hub.serve_forever, daemon=True)
    serving.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        serving.join()
        hub.server_close()
