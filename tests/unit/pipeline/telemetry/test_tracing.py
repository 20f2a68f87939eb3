"""The spans of a preview form one trace over all processes; tracing is off without a collector."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pipeline.contract.records import outcome_fields
from pipeline.domain import acceptance, jobs
from pipeline.telemetry import tracing
from tests.support.fake_service import FakeService

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use_provider(provider)
    yield exporter
    tracing.use_provider(None)


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def trace_id(span: ReadableSpan) -> str:
    return f"{span.get_span_context().trace_id:032x}"  # type: ignore[union-attr]


def test_span_has_given_parent(exported: InMemorySpanExporter) -> None:
    with tracing.span("request", parent=CALLER, kind="server"):
        given = tracing.current_traceparent()
    with tracing.span("synthesis", parent=given):
        pass
    found = spans(exported)
    assert {trace_id(span) for span in found.values()} == {CALLER.split("-")[1]}
    assert given is not None
    assert f"{found['synthesis'].parent.span_id:016x}" == given.split("-")[2]  # type: ignore[union-attr]


async def test_job_carries_traceparent(exported: InMemorySpanExporter) -> None:
    fakes = FakeService()
    with tracing.span("request"):
        given = tracing.current_traceparent()
        request = (await fakes.job()).model_copy(update={"traceparent": given})
        await acceptance.accept(fakes.resources, request)
    stored = await jobs.read_request(fakes.resources, request.job_id)
    assert stored is not None
    assert stored.traceparent == given
    assert outcome_fields(stored, fakes.resources.clock())["traceparent"] == given
    found = spans(exported)
    assert found["enqueue"].parent == found["request"].get_span_context()


def test_span_in_the_past(exported: InMemorySpanExporter) -> None:
    began = FakeService().resources.clock()
    tracing.record_span("queue", began, began + timedelta(seconds=1.5), parent=CALLER)
    (span,) = exported.get_finished_spans()
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.end_time - span.start_time == 1_500_000_000
    assert trace_id(span) == CALLER.split("-")[1]


def test_error_span_has_no_message(exported: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="personal"), tracing.span("request"):
        raise ValueError("personal")
    (span,) = exported.get_finished_spans()
    assert not span.status.is_ok
    assert "personal" not in span.to_json()


@pytest.mark.parametrize("broken", ["", "nonsense", "00-0-0-00"])
def test_invalid_traceparent_starts_trace(exported: InMemorySpanExporter, broken: str) -> None:
    with tracing.span("request", parent=broken):
        assert tracing.current_traceparent() is not None
    (span,) = exported.get_finished_spans()
    assert span.parent is None


def test_tracing_off_imports_no_sdk() -> None:
    script = """
import sys
from pipeline.telemetry import tracing
from pipeline.settings import Settings
tracing.configure_tracing(Settings(), "api")
with tracing.span("request"):
    assert tracing.current_traceparent() is None
tracing.flush()
exporting = ("opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf")
print([name for name in sys.modules if name.startswith(exporting)])
"""
    done: Any = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
