"""A page in a browser follows redirects from the API to the storage, across three origins."""

import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.client import Client
from tests.e2e.stack import running

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

# Fetches a preview and reports the result to the page's own server.
PAGE = """<script>
fetch(%s)
  .then(answer => answer.arrayBuffer().then(body => `${answer.status} ${answer.redirected} ${body.byteLength}`))
  .catch(error => `failed: ${error}`).then(text => fetch('/report', {method: 'POST', body: text}));
</script>"""


class Page:
    """A web server with one page, and the results that the page reported."""

    def __init__(self) -> None:
        self.reports: queue.Queue[str] = queue.Queue()
        self.script = ""
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(page.script.encode())

            def do_POST(self) -> None:
                page.reports.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def page() -> Iterator[Page]:
    served = Page()
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def client(page: Page, tmp_path: Path) -> Iterator[Client]:
    """A client of a service that redirects all previews and allows the page's origin."""
    settings = {"ANSWER_MAX_MEGABYTES": "0.001", "CORS_ORIGINS": page.origin}
    with running(tmp_path / "data", settings) as stack:
        yield Client(stack.url, stack.socket_url)


def test_page_follows_preview_redirect(page: Page, client: Client, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    made = client.preview(120, "Hello.")
    assert made.status_code == 303
    page.script = PAGE % json.dumps(f"{client.url}/previews/{made.headers['x-job-id']}.wav")
    quiet = [
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-sync",
    ]
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        *quiet,
        f"--user-data-dir={tmp_path / 'profile'}",
        page.origin,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        report = page.reports.get(timeout=60)
    finally:
        process.terminate()
        process.wait(20)
    status, redirected, size = report.split()
    assert (status, redirected) == ("200", "true"), report
    assert int(size) > 10_000
