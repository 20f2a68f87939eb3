"""Log lines: their format, and the redaction of secrets."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from pipeline.settings import Settings
from pipeline.telemetry.logs import TextLine, configure_logging, correlation_id_from

Lines = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, configured = root.handlers, root.level, structlog.get_config()
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.configure(**configured)


def logged(capsys: Lines, event: str = "something", **more: Any) -> dict[str, Any]:
    configure_logging(Settings(log_format="json"), "api")
    structlog.get_logger("here").info(event, **more)
    (line,) = capsys.readouterr().err.splitlines()
    read = json.loads(line)
    assert isinstance(read, dict)
    return read


def test_json_log_line(capsys: Lines) -> None:
    with structlog.contextvars.bound_contextvars(correlation_id="corr-1"):
        line = logged(capsys, "job done", ms=1.5, ok=True, nothing=None)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "job done",
        "level": "info",
        "logger": "here",
        "service": "api",
        "correlation_id": "corr-1",
        "ms": 1.5,
        "ok": True,
        "nothing": None,
    }


def test_text_log_line(capsys: Lines) -> None:
    configure_logging(Settings(log_format="text"), "worker")
    structlog.get_logger("here").warning("job done", ms=1.5)
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d worker     warning: job done  ms=1\.5  \[here\]", line)


def test_text_log_fits_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    event = {"timestamp": "2026-11-29T13:22:43Z", "service": "api", "level": "info", "event": "request"}
    values = {"method": "GET", "path": "/previews/" + "0" * 32, "correlation_id": "0" * 32, "status": 200}
    lines = TextLine(terminal)(None, "", {**event, **values}).splitlines()
    assert len(lines) > 1
    assert all(len(line) <= 60 for line in lines)
    assert "correlation_id" not in "".join(lines)
    assert "status=200" in "".join(lines)


def test_library_logs_use_same_format(capsys: Lines) -> None:
    configure_logging(Settings(log_format="json"), "api")
    with structlog.contextvars.bound_contextvars(correlation_id="corr-1"):
        logging.getLogger("uvicorn.error").warning("Authorization: Bearer %s", "secret")
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "Authorization: Bearer [redacted]"
    assert (line["correlation_id"], line["service"]) == ("corr-1", "api")


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer SECRET",
        "bearer   SECRET",
        "BEARER SECRET, and more",
        "http://s3/x?X-Amz-Credential=SECRET&X-Amz-Date=1&X-Amz-Signature=SECRET",
        "x-amz-security-token=SECRET",
        "X-Amz-Signature%3DSECRET",
        "{'x-amz-signature': 'SECRET', 'key': 'k'}",
        '{"x-amz-credential": "SECRET"}',
        "a key, vck_0123456789ab_SECRET, in passing",
        "/ws?ticket=019cc1234567789089abcdef01234567.SECRET_" + "s" * 36 + "&more",
        "Authorization: Basic SECRET",
        "'authorization': 'AWS4-HMAC-SHA256 Credential=SECRET, Signature=SECRET'",
        "(b'authorization', b'Bearer SECRET'), (b'host', b'x')",
        "Authorization: SECRET",
        "Sec-WebSocket-Protocol: ticket, SECRET",
        "('sec-websocket-protocol', 'SECRET')",
        "GET /ws?ticket=SECRET HTTP/1.1",
        "/ws?a=1&ticket=SECRET&b=2",
        "ticket%3DSECRET",
        '{"ticket": "SECRET", "expires_in": 60}',
        "{'ticket': 'SECRET'}",
    ],
)
def test_secrets_are_redacted(capsys: Lines, text: str) -> None:
    for line in (logged(capsys, text), logged(capsys, value=text), logged(capsys, value={"a": [text]})):
        assert "SECRET" not in json.dumps(line)
        assert "[redacted]" in json.dumps(line)


def test_ids_are_not_redacted(capsys: Lines) -> None:
    path = "/previews/019cc1234567789089abcdef01234567.wav"
    assert logged(capsys, path=path)["path"] == path
    assert logged(capsys, key="vck_0123456789ab_SECRET")["key"] == "vck_0123456789ab_[redacted]"


KEY = "vck_AbCdEf012345_SECRETsecretSECRETsecret0"


@pytest.mark.parametrize(
    "text",
    [
        f"the key {KEY}.",
        f"Bearer {KEY}",
        f"Authorization: Bearer {KEY}",
        f"{{'authorization': '{KEY}', 'a': 'b'}}",
        f"/voices?key={KEY}&a=b",
    ],
)
def test_api_key_keeps_id_only(capsys: Lines, text: str) -> None:
    line = logged(capsys, "used", value=text)["value"]
    assert "vck_AbCdEf012345_[redacted]" in line
    assert "secret" not in line.lower()


def test_similar_text_is_not_redacted(capsys: Lines) -> None:
    for text in ("ticket = jobs.parse_ticket(body)", "authorization was refused", "a vck_ prefix"):
        assert logged(capsys, "said", value=text)["value"] == text


def test_secret_in_traceback_is_redacted(capsys: Lines) -> None:
    configure_logging(Settings(log_format="json", log_payload_chars=10), "api")
    try:
        dict[str, str]()["Bearer SECRET " + "x" * 600]
    except KeyError:
        structlog.get_logger("here").exception("went wrong")
    line = json.loads(capsys.readouterr().err)
    assert "SECRET" not in line["exception"]
    assert "x" * 600 in line["exception"]


def test_long_values_are_cut(capsys: Lines) -> None:
    line = logged(capsys, text="a" * 501, fits="b" * 500, nested={"text": "c" * 1000})
    assert line["text"] == "a" * 500 + "… (501 characters)"
    assert line["fits"] == "b" * 500
    assert len(line["nested"]) < 540


def test_secret_is_redacted_before_cutting(capsys: Lines) -> None:
    assert "SECRET" not in logged(capsys, text="a" * 490 + " Bearer SECRETSECRET")["text"]


def test_bytes_are_logged_as_length(capsys: Lines) -> None:
    audio = b"RIFFsecretvoice"
    line = logged(capsys, raw=audio, more=bytearray(audio), view=memoryview(audio), deep={"a": [audio, (audio,)]})
    assert line["raw"] == line["more"] == line["view"] == "<15 bytes>"
    assert "secretvoice" not in json.dumps(line)
    assert line["deep"].count("<15 bytes>") == 2


@pytest.mark.parametrize("format_", ["text", "json"])
def test_control_characters_are_escaped(capsys: Lines, format_: str) -> None:
    configure_logging(Settings.model_validate({"log_format": format_}), "api")
    structlog.get_logger("here").info("a\nFORGED", path="/x\r\nFORGED \x1b[31m\u2028\x85")
    written = capsys.readouterr().err
    assert len(written.splitlines()) == 1
    assert "\x1b" not in written


def test_value_without_json_form(capsys: Lines) -> None:
    assert "object" in logged(capsys, thing=object())["thing"]


def test_log_level_setting(capsys: Lines) -> None:
    configure_logging(Settings(log_format="json", log_level="DEBUG"), "api")
    structlog.get_logger("here").debug("seen")
    logging.getLogger("botocore.auth").info("signing with SECRET")
    logging.getLogger("aiobotocore.credentials").info("found credentials")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["seen"]
    configure_logging(Settings(log_format="json", log_level="ERROR"), "api")
    structlog.get_logger("here").warning("not seen")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("given", ["a", "A-b_c.d:e/f+g=h@i", "1" * 128])
def test_correlation_id_valid(given: str) -> None:
    assert correlation_id_from(given) == given


@pytest.mark.parametrize("given", [None, "", " ", "a b", "a\nb", "ü", "1" * 129, "a;b", "<script>", "a\x00"])
def test_correlation_id_invalid(given: str | None) -> None:
    assert correlation_id_from(given) is None
