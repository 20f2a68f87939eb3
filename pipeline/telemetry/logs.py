"""Structured logs, one line per event, without secrets, audio or long payloads."""

import logging
import re
import shutil
import sys
import textwrap
from collections.abc import MutableMapping
from datetime import datetime
from typing import Any, TextIO

import structlog

from pipeline.settings import Settings

# The text before a secret, and the secret: a header, as text or in a list, a parameter or a JSON field.
_IS = r"(?:[\"']?\s*(?:=|%3D|:)|[\"']\s*,)\s*(?:b?[\"'])?"
_SECRETS = re.compile(
    rf"(?P<before>\b(?:authorization|sec-websocket-protocol){_IS}(?:bearer\s+)?)(?P<header>[^\s\"'][^\"'\r\n]*)"
    r"|(?P<before_token>\bbearer\s+"
    r"|x-amz-(?:signature|credential|security-token)[\"']?\s*(?:=|%3D|:)\s*[\"']?"
    r"|\bticket(?:=|%3D|[\"']\s*:\s*[\"'])"
    # A ticket anywhere in the text, except for its id, which may be logged.
    r"|(?<![0-9a-f])[0-9a-f]{32}\.(?=[A-Za-z0-9_-]{43}))(?P<token>[^\s\"'&,;}]+)",
    re.IGNORECASE,
)
# An API key of this service, recognised by its prefix.
_KEYS = re.compile(r"\b(?P<id>vck_[A-Za-z0-9]{12})_[A-Za-z0-9_-]+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CORRELATION_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

EventDict = MutableMapping[str, Any]


def configure_logging(settings: Settings, service: str) -> None:
    """Configure all loggers, including the libraries', to write to stderr in the configured format."""
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(settings)],
        foreign_pre_chain=_describing(service),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for chatty in ("aiobotocore", "botocore", "urllib3", "asyncio", "mangum", "numba", "uvicorn.websocket"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    # At lower levels it logs whole requests, and each step of its start and stop.
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_describing(service),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def correlation_id_from(given: str | None) -> str | None:
    """Return a caller's correlation id if it is valid in a header and a log line, or None."""
    return given if given and _CORRELATION_ID.fullmatch(given) else None


def current_correlation_id() -> str | None:
    """Return the correlation id of the current request."""
    return _bound("correlation_id")


def current_key_id() -> str | None:
    """Return the id of the API key of the current request, if it has one."""
    return _bound("key_id")


def _bound(name: str) -> str | None:
    value: Any = structlog.contextvars.get_contextvars().get(name)
    return value if isinstance(value, str) else None


def _describing(service: str) -> list[structlog.types.Processor]:
    def name_service(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_service,
    ]


def _rendering(settings: Settings) -> list[structlog.types.Processor]:
    def bound(_logger: Any, _method: str, event: EventDict) -> EventDict:
        for name, value in event.items():
            # A traceback is not a payload, and is needed in full.
            event[name] = _redacted(value) if name == "exception" else _harmless(value, settings.log_payload_chars)
        return event

    if settings.log_format == "json":
        return [structlog.processors.format_exc_info, bound, structlog.processors.JSONRenderer(default=str)]
    return [structlog.processors.format_exc_info, bound, TextLine(sys.stderr)]


class TextLine:
    """Renders an event as text: time, service, event, values.  On a terminal, it is wrapped."""

    def __init__(self, stream: TextIO) -> None:
        self._columns = shutil.get_terminal_size().columns if stream.isatty() else None

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> str:
        """Return the text of an event."""
        moment = datetime.fromisoformat(event.pop("timestamp")).astimezone()
        service, level, name = event.pop("service"), event.pop("level"), event.pop("logger", "")
        is_urgent = level not in {"debug", "info"}
        text, exception = event.pop("event"), event.pop("exception", None)
        if self._columns and not is_urgent:
            event.pop("correlation_id", None)  # half a line, which is needed to investigate errors only
        values = [f"{key}={value}" for key, value in event.items() if not key.startswith("_")]
        start = f"{moment:%H:%M:%S} {service:<10} "
        line = "  ".join(
            [f"{level}: {text}" if is_urgent else text, *values, *([f"[{name}]"] if is_urgent else [])]
        )
        return start + self._fitted(line, len(start), is_urgent) + (f"\n{exception}" if exception else "")

    def _fitted(self, line: str, indent: int, is_urgent: bool) -> str:
        if self._columns is None:
            return line
        width = max(20, self._columns - indent)
        lines = textwrap.wrap(line, width, break_on_hyphens=False) or [""]
        wrapped = ("\n" + " " * indent).join(lines)
        return f"\x1b[1m{wrapped}\x1b[0m" if is_urgent else wrapped


def _harmless(value: Any, limit: int) -> Any:
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = _CONTROLS.sub(_escaped, _redacted(_without_bytes(value)))
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _without_bytes(value: Any) -> Any:
    match value:
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case dict():
            return {name: _without_bytes(inner) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_without_bytes(inner) for inner in value]
        case _:
            return value


def _redacted(value: Any) -> str:
    return _KEYS.sub(
        r"\g<id>_[redacted]", _SECRETS.sub(_without_secret, value if isinstance(value, str) else str(value))
    )


def _without_secret(found: re.Match[str]) -> str:
    key = _KEYS.match(found["header"] or found["token"])
    return f"{found['before'] or found['before_token']}{key['id'] + '_' if key else ''}[redacted]"


def _escaped(control: re.Match[str]) -> str:
    """Escape a control character, which could break the line or forge another one."""
    return control[0].encode("unicode_escape").decode()
