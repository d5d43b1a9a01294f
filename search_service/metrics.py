"""Metrics for Prometheus. Labels are routes, classes of statuses and names of indexes: few values,
whatever is asked for."""

import os
from collections.abc import Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from search_service.errors import ServiceError

_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The metrics of one process, or of all when PROMETHEUS_MULTIPROC_DIR names their folder."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._shared = MULTIPROCESS in os.environ
        if not self._shared:
            ProcessCollector(registry=registry)
        self._requests = Counter(
            "pg_es_search_requests",
            "Requests by route, class of status, and index where one was searched.",
            ["method", "route", "status", "index"],
            registry=registry,
        )
        self._seconds = Histogram(
            "pg_es_search_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ["route"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.under_way = Gauge(
            "pg_es_search_requests_under_way",
            "Requests that are being answered.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.turned_away = Counter(
            "pg_es_search_turned_away",
            "Requests that were not tried: over their rate, overload, not authenticated.",
            ["reason"],
            registry=registry,
        )
        self.breaker_open = Gauge(
            "pg_es_search_elasticsearch_left_alone",
            "1 while Elasticsearch is not asked, since it could not be reached.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.in_step_at = Gauge(
            "pg_es_search_index_in_step_timestamp_seconds",
            "When the index was last known to be in step with its table, in seconds since 1970.",
            ["index"],
            multiprocess_mode="mostrecent",
            registry=registry,
        )

    def count(self, method: str, route: str, status: int, index: str, seconds: float) -> None:
        """Count a request that has been answered."""
        self._requests.labels(method, route, f"{status // 100}xx", index).inc()
        self._seconds.labels(route).observe(seconds)

    def count_shed(self, methods: Mapping[str, int], problem: ServiceError) -> None:
        """Count requests that were turned away before they were handled, by their methods."""
        for method, number in methods.items():
            self._requests.labels(method, "none", f"{problem.status // 100}xx", "").inc(number)
        self.turned_away.labels(problem.kind).inc(sum(methods.values()))

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics in a format that the header `Accept` names, and its media type."""
        registry = self._registry
        if self._shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        encoder, media_type = choose_encoder(accept)
        return encoder(registry), media_type

    def close(self) -> None:
        """Leave no live values behind for the processes that go on."""
        if self._shared:
            mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]
