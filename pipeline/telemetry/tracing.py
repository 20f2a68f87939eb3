"""Traces by OpenTelemetry, from a request to its notification, if `TRACES_URL` is set.

The provider is this module's own, not the global one: otherwise FastAPI would trace requests too, with the tickets
in their queries.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pipeline.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

Kind = Literal["internal", "server", "producer", "consumer"]

# The longest that a process waits at its end, or a function after an event, for a collector that does not respond.
EXPORT_SECONDS = 2.0

_W3C = TraceContextTextMapPropagator()
_providers: "list[TracerProvider]" = []
_KINDS: dict[Kind, trace.SpanKind] = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}


def configure_tracing(settings: Settings, service: str) -> None:
    """Send the spans of this process to the collector in the settings, if there is one."""
    if settings.traces_url is None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    exporter = OTLPSpanExporter(endpoint=settings.traces_url, timeout=EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    use_provider(provider)


def use_provider(provider: "TracerProvider | None") -> None:
    """Create spans by this provider, or no spans (None)."""
    _providers[:] = [provider] if provider else []


def flush() -> None:
    """Send all spans that have ended: for a process that is about to be stopped or frozen."""
    for provider in _providers:
        provider.force_flush(int(EXPORT_SECONDS * 1000))


@contextmanager
def span(name: str, *, parent: str | None = None, kind: Kind = "internal", **attributes: str) -> Iterator[None]:
    """Measure the code in the context.

    Parameters
    ----------
    name
        The operation.
    parent
        The `traceparent` of the span that it belongs to, in W3C's format. Default: the current one.
    kind
        How the span relates to other processes.
    attributes
        Names and values to describe it, without personal data.
    """
    if not _providers:
        yield
        return
    started = _tracer().start_as_current_span(
        name,
        _context_of(parent),
        _KINDS[kind],
        attributes,
        record_exception=False,  # its message can quote a client's text
        set_status_on_exception=False,
    )
    with started as current:
        try:
            yield
        except BaseException:
            current.set_status(trace.StatusCode.ERROR)
            raise


def record_span(name: str, began: datetime, ended: datetime, *, parent: str | None) -> None:
    """Add a span that has ended already."""
    if _providers:
        _tracer().start_span(name, _context_of(parent), start_time=_nanoseconds(began)).end(_nanoseconds(ended))


def current_traceparent() -> str | None:
    """Return the current span in W3C's format, to be its parent elsewhere, or None if nothing is traced."""
    carrier: dict[str, str] = {}
    if _providers:
        _W3C.inject(carrier)
    return carrier.get("traceparent")


def _tracer() -> trace.Tracer:
    return _providers[0].get_tracer("voice_cloning")


def _context_of(parent: str | None) -> context.Context | None:
    return _W3C.extract({"traceparent": parent}) if parent else None


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1000
