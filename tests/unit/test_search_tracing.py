"""Spans of requests: their route and status, and no value."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from search_service import tracing
from search_service.tracing import Tracer


class Route:
    path = "/indices/{index}/documents/{id}"


def test_a_request_is_a_span_below_its_client_s_without_values() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    scope = {
        "method": "GET",
        "path": "/indices/orders/documents/hushhush",
        "query_string": b"fields=hushhush",
        "headers": [(b"traceparent", parent), (b"authorization", b"Bearer hushhush")],
        "route": Route(),
        "state": {"status": 404, "request_id": "abc"},
    }
    with pytest.raises(KeyError), Tracer(provider).request(scope):
        raise KeyError("hushhush")
    with Tracer(provider).request(scope):
        pass
    failed, span = exporter.get_finished_spans()
    assert span.name == "GET /indices/{index}/documents/{id}"
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 404
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert "hushhush" not in failed.to_json() + span.to_json()


def test_without_a_place_to_send_them_there_are_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tracing.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    assert tracing.tracer() is None
