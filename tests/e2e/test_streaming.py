"""Audio streams during synthesis over real sockets, to several kinds of clients and after a worker is killed."""

import io
import shutil
import socket
import subprocess
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import av
import httpx
import pytest
import soundfile as sf
from playwright.sync_api import Browser

from tests.e2e.client import Client, Message, recording
from tests.e2e.stack import Stack, running, wait_until
from tests.studio.browser import chromium

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("survival")]

RATE = 24_000
# About five seconds of audio, synthesized in real time.
TEXT = "One, two, three, four, five: these words take a few seconds to be said aloud. "
SECONDS = 4.0
REAL_TIME = {"MOCK_SPEED": "1", "UVICORN_WORKERS": "2", "VISIBILITY_TIMEOUT_SECONDS": "2"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service with an engine that runs in real time."""
    with running(tmp_path_factory.mktemp("streaming") / "data", REAL_TIME) as stack:
        yield stack


@pytest.fixture
def client(stack: Stack) -> Client:
    return Client(stack.url, stack.socket_url)


@pytest.fixture(scope="module")
def session_id(stack: Stack) -> str:
    """The session of an upload."""
    answer = Client(stack.url, stack.socket_url).request("POST", "/upload", files={"audio": recording(120)})
    uploaded: str = answer.json()["session_id"]
    return uploaded


@contextmanager
def streamed(client: Client, session_id: str, format_: str = "wav", text: str = TEXT) -> Iterator[httpx.Response]:
    """Request a streamed preview."""
    form = {"session_id": session_id, "response_text": text}
    path = f"{client.url}/preview?stream=1&format={format_}"
    with httpx.stream("POST", path, data=form, headers=client.headers, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        yield answer


def pcm_of(client: Client, job_id: str) -> bytes:
    """Return the samples of a stored preview."""
    samples, rate = sf.read(io.BytesIO(client.get(f"/previews/{job_id}.wav").content), dtype="int16")
    assert rate == RATE
    return bytes(samples.tobytes())


@dataclass
class StreamMessages:
    """The messages of one stream with their arrival times."""

    messages: list[Message] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def add(self, message: Message) -> None:
        self.messages.append(message)
        self.times.append(time.monotonic())

    @property
    def chunks(self) -> list[Message]:
        return [message["data"] for message in self.messages if message["type"] == "tts_audio"]

    @property
    def started(self) -> list[Message]:
        return [message["data"] for message in self.messages if message["data"].get("status") == "started"]

    @property
    def has_ended(self) -> bool:
        return self.messages[-1]["type"] not in {"tts_audio", "progress"}

    @property
    def pcm(self) -> bytes:
        """The audio of a client that ignores duplicate chunks."""
        played = {chunk["seq"]: b64decode(chunk["audio"]) for chunk in reversed(self.chunks)}
        assert sorted(played) == list(range(len(played)))
        return b"".join(played[seq] for seq in sorted(played))


def test_socket_streams_during_synthesis(client: Client, session_id: str) -> None:
    received = StreamMessages()
    with client.socket() as socket_:
        socket_.send("generate_preview", session_id=session_id, text=TEXT, stream=True, request_id="r")
        while not received.messages or not received.has_ended:
            received.add(socket_.receive())
    assert received.messages[-1]["type"] == "tts_complete"
    assert {message["data"]["request_id"] for message in received.messages} == {"r"}
    assert received.times[-1] - received.times[1] > SECONDS / 2
    assert received.pcm == pcm_of(client, received.messages[-1]["data"]["job_id"])


class GrowingFile(io.RawIOBase):
    """A response as a file that grows."""

    def __init__(self, answer: httpx.Response) -> None:
        self._parts = answer.iter_raw()
        self._rest = b""
        self.is_whole = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest and not self.is_whole:
            self._rest = next(self._parts, b"")
            self.is_whole = not self._rest
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


@pytest.mark.parametrize("format_", ["wav", "mp3", "opus"])
def test_pyav_decodes_growing_response(client: Client, session_id: str, format_: str) -> None:
    with streamed(client, session_id, format_) as answer:
        file, samples, arrived_early = GrowingFile(answer), 0, False
        with av.open(file, "r", options={"probesize": "4096", "analyzeduration": "0"}) as container:
            for frame in container.decode(audio=0):
                arrived_early = arrived_early or not file.is_whole
                samples += frame.samples
                rate = frame.sample_rate
    assert arrived_early
    stored = len(pcm_of(client, answer.headers["x-job-id"])) / 2 / RATE
    assert samples / rate == pytest.approx(stored, abs=0.15)


def test_ffmpeg_decodes_growing_response(client: Client, session_id: str) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("no ffmpeg is installed; on Debian: apt-get install ffmpeg")
    # By default, ffmpeg examines 4.4 seconds of a WAV before it returns any audio.
    probing, output = ["-probesize", "4096"], ["-f", "s16le", "-flush_packets", "1", "pipe:1"]
    command = [ffmpeg, "-v", "error", *probing, "-i", "pipe:0", *output]
    with (
        streamed(client, session_id) as answer,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        ThreadPoolExecutor(1) as pool,
    ):
        assert process.stdin
        assert process.stdout
        first, rest = pool.submit(process.stdout.read, RATE), pool.submit(process.stdout.read)
        with process.stdin:
            last = b""
            for part in answer.iter_raw():
                process.stdin.write(last)
                process.stdin.flush()
                last = part
            decoded = first.result(60)  # before the end of the input
            process.stdin.write(last)
        decoded += rest.result(60)
    assert decoded == pcm_of(client, answer.headers["x-job-id"])


PAGE = b"""<!doctype html><audio src="/audio"></audio>
<button onclick="document.querySelector('audio').play()">Play</button>"""


class Site:
    """A web site whose page plays a preview that its server forwards as a stream."""

    def __init__(self, client: Client, session_id: str, format_: str) -> None:
        self.is_whole = False
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path != "/audio":
                    self._begin("text/html", ("Content-Length", str(len(PAGE))))
                    self.wfile.write(PAGE)
                    return
                with suppress(ConnectionError), streamed(client, session_id, format_, TEXT * 2) as answer:
                    self._begin(answer.headers["content-type"], ("Transfer-Encoding", "chunked"))
                    for part in answer.iter_raw():
                        self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
                    site.is_whole = True
                    self.wfile.write(b"0\r\n\r\n")

            def _begin(self, content_type: str, framing: tuple[str, str]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header(*framing)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    microphone = tmp_path_factory.mktemp("microphone") / "speech.wav"
    microphone.write_bytes(recording(120))
    with chromium(microphone) as opened:
        yield opened


@pytest.mark.parametrize("format_", ["wav", "mp3"])
def test_browser_plays_growing_response(browser: Browser, client: Client, session_id: str, format_: str) -> None:
    with closing(Site(client, session_id, format_)) as site, browser.new_context() as context:
        page = context.new_page()
        page.goto(site.origin)
        page.get_by_role("button").click()
        page.wait_for_function("document.querySelector('audio').currentTime > 0.2", timeout=30_000)
        assert not site.is_whole
        page.wait_for_function("document.querySelector('audio').ended", timeout=30_000)
        assert site.is_whole
        played = page.evaluate("document.querySelector('audio').currentTime")
    assert played == pytest.approx(len(TEXT) * 2 * 0.06, abs=0.3)


def duration_of_stream(client: Client, session_id: str) -> float:
    """Receive a whole stream. Return its duration in seconds."""
    began = time.monotonic()
    with streamed(client, session_id) as answer:
        assert len(answer.read()) > SECONDS * RATE * 2
    return time.monotonic() - began


def test_stalled_client_blocks_no_others(client: Client, session_id: str) -> None:
    parts = urlsplit(client.url)
    body = f"session_id={session_id}&response_text={TEXT.replace(' ', '+') * 8}"
    head = (
        "POST /preview?stream=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    alone = duration_of_stream(client, session_id)
    with socket.socket() as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        idle.connect((parts.hostname, parts.port))
        idle.sendall((head + body).encode())
        received = b""
        while b"RIFF" not in received:
            received += idle.recv(1024)
        job_id = received.lower().partition(b"x-job-id: ")[2].partition(b"\r\n")[0].decode()
        assert duration_of_stream(client, session_id) < alone + 4  # a post waits for a client for 5 s at most
        wait_until(lambda: client.get(f"/jobs/{job_id}").json()["status"] == "succeeded", "success", 60)


def test_job_events_arrive_during_synthesis(client: Client, session_id: str) -> None:
    form = {"session_id": session_id, "response_text": TEXT}
    accepted = client.request("POST", "/preview", data=form, headers={"Prefer": "respond-async"})
    found: dict[str, float] = {}
    path = f"{client.url}{accepted.headers['location']}/events"
    with httpx.stream("GET", path, timeout=60) as answer:
        for line in answer.iter_lines():
            if line.startswith("event: "):
                found.setdefault(line.removeprefix("event: "), time.monotonic())
    assert list(found) == ["queued", "started", "progress", "completed"]
    assert found["completed"] - found["progress"] > SECONDS / 4


# kill -9


def test_killed_worker_stream_resumes(stack: Stack, client: Client, session_id: str) -> None:
    received = StreamMessages()
    with client.socket() as socket_, ThreadPoolExecutor() as pool:
        reading = pool.submit(_read_stream, client, session_id)
        socket_.send("generate_preview", session_id=session_id, text=TEXT, stream=True)
        while len(received.chunks) < 4:
            received.add(socket_.receive())
        stack.kill("gpu_runner")
        while not received.has_ended:
            received.add(socket_.receive(60))
        job_id, audio = reading.result(60)
    assert received.messages[-1]["type"] == "tts_complete"
    # The client is informed about the restart.  The repeated chunks are identical.
    assert [data["restarted"] for data in received.started] == [False, True]
    assert len({data["take"] for data in received.started}) == 1
    first = {chunk["seq"]: chunk["audio"] for chunk in reversed(received.chunks)}
    assert all(first[chunk["seq"]] == chunk["audio"] for chunk in received.chunks)
    assert received.pcm == pcm_of(client, received.messages[-1]["data"]["job_id"])
    # An HTTP client receives the complete audio of one take.
    assert audio[44:] == pcm_of(client, job_id)
    assert client.get(f"/jobs/{job_id}").json()["status"] == "succeeded"


def _read_stream(client: Client, session_id: str) -> tuple[str, bytes]:
    with streamed(client, session_id) as answer:
        return answer.headers["x-job-id"], answer.read()
