"""How fresh each index is, for the head of every answer, without asking for every answer."""

import asyncio
import time
from datetime import UTC, datetime

import structlog
from elastic_transport import TransportError
from elasticsearch import ApiError

from search_service.elastic import Elastic
from search_service.errors import ServiceError
from search_service.indices import Catalog, Freshness, freshness
from search_service.metrics import Metrics

log = structlog.get_logger(__name__)

IN_STEP_AT = "X-Index-In-Step-At"
LAG = "X-Index-Lag"
HEADERS = (IN_STEP_AT, LAG)

_MAX_AGE = 5.0  # seconds; the lag in an answer may be this much too large


class FreshnessCache:
    """The last known freshness of the indexes, read again beside the searches that want it."""

    def __init__(
        self, elastic: Elastic, catalog: Catalog, metrics: Metrics, timeout: float
    ) -> None:
        self._elastic = elastic
        self._catalog = catalog
        self._metrics = metrics
        self._timeout = timeout
        self._known: dict[str, Freshness] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    def headers(self, index: str) -> dict[str, str]:
        """The headers for an answer from this index; none while its freshness is not known."""
        reading = self._reading is not None and not self._reading.done()
        if not reading and time.monotonic() - self._read_at > _MAX_AGE:
            self._reading = asyncio.create_task(self._read())
        known = self._known.get(index)
        if known is None:
            return {}
        lag = (datetime.now(UTC) - datetime.fromisoformat(known.in_step_at)).total_seconds()
        return {IN_STEP_AT: known.in_step_at, LAG: f"{max(lag, 0.0):.3f}"}

    async def _read(self) -> None:
        try:
            indices = self._catalog.known()
            self._known = await freshness(self._elastic, indices, self._timeout)
        except (ServiceError, TransportError, ApiError) as error:
            log.warning("freshness_unknown", reason=type(error).__name__)
        self._read_at = time.monotonic()
        for name, known in self._known.items():
            at = datetime.fromisoformat(known.in_step_at).timestamp()
            self._metrics.in_step_at.labels(name).set(at)
