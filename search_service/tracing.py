"""Traces for OpenTelemetry, when the environment names where to send them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import Scope

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class TracingError(Exception):
    """Traces are asked for, and cannot be made."""


class Tracer:
    """A span for each request; it has the route and no value of the request."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry import propagate, trace

        self._provider = provider
        self._tracer = trace.get_tracer("search_service", tracer_provider=provider)
        self._kind = trace.SpanKind.SERVER
        self._extract = propagate.extract

    @contextmanager
    def request(self, scope: Scope) -> Iterator[None]:
        """Around a request: its span, below that of the client if it names one."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in {b"traceparent", b"tracestate"}
        }
        method = scope["method"]
        with self._tracer.start_as_current_span(
            method,
            self._extract(headers),
            self._kind,
            attributes={"http.request.method": method},
            # The message of an exception may have values.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            finally:
                route = getattr(scope.get("route"), "path", None)
                state = scope.get("state", {})
                if route:
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)
                if "status" in state:
                    span.set_attribute("http.response.status_code", state["status"])
                span.set_attribute("request_id", state.get("request_id", ""))

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


def tracer() -> Tracer | None:
    """A tracer that sends to where the environment says; None: it names no place.

    Raises:
        TracingError: the packages for it are missing.
    """
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise TracingError(
            f"{ENDPOINTS[0]} is set, but the packages for traces are not installed: "
            "pip install 'pg-es-pipeline[otel]', or unset it"
        ) from None
    # OTEL_SERVICE_NAME, if set, takes the place of this name.
    resource = Resource.create(
        {"service.name": os.environ.get("OTEL_SERVICE_NAME", "pg-es-search")}
    )
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracer(provider)
