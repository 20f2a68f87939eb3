"""Structured logs, one line an event, safe to keep: no secrets, no audio, no long payloads."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from pipeline.settings import Settings

_SECRETS = re.compile(
    r"(?P<before>bearer\s+|x-amz-(?:signature|credential|security-token)[\"']?\s*(?:=|%3D|:)\s*[\"']?)"
    r"[^\s\"'&,;}]+",
    re.IGNORECASE,
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CORRELATION_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

EventDict = MutableMapping[str, Any]


def configure_logging(settings: Settings, service: str) -> None:
    """Send every log line of this process, the libraries' too, to stderr in the form that the settings ask for."""
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(settings)],
        foreign_pre_chain=_describing(service),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for chatty in ("aiobotocore", "botocore", "urllib3", "asyncio", "mangum", "numba"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
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
    """Take a caller's correlation id if it can stand in a header and a log line; None otherwise."""
    return given if given and _CORRELATION_ID.fullmatch(given) else None


def current_correlation_id() -> str | None:
    """Give the correlation id of the request in whose context this runs."""
    value: Any = structlog.contextvars.get_contextvars().get("correlation_id")
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
            # A traceback is ours, not a payload, and is needed whole.
            event[name] = _redacted(value) if name == "exception" else _harmless(value, settings.log_payload_chars)
        return event

    if settings.log_format == "json":
        return [structlog.processors.format_exc_info, bound, structlog.processors.JSONRenderer(default=str)]
    return [
        structlog.processors.format_exc_info,
        bound,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False),
    ]


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
    return _SECRETS.sub(r"\g<before>[redacted]", value if isinstance(value, str) else str(value))


def _escaped(control: re.Match[str]) -> str:
    """Show what would break the line, or forge another one."""
    return control[0].encode("unicode_escape").decode()
