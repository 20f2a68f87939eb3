"""An OTLP collector of traces."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

HOST = "127.0.0.1"


class Collector:
    """Receives traces by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: dict[str, list[tuple[str, Span]]] = {}
        """Service names and spans by trace id."""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = ExportTraceServiceRequest()
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sent.ParseFromString(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
                collector.add(sent)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self._server.server_port}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def add(self, sent: ExportTraceServiceRequest) -> None:
        """Store the spans of a request."""
        for resource in sent.resource_spans:
            attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.setdefault(span.trace_id.hex(), []).append((attributes["service.name"], span))

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
