"""How much of the service is measured, and with what."""

from dataclasses import dataclass

from benchmarks.plan import Plan
from benchmarks.servers import Servers
from benchmarks.service.asked import Searches
from benchmarks.service.process import Service
from benchmarks.service.wrk import Answers, send

CONNECTIONS = 8


@dataclass(frozen=True)
class Bench:
    """What all parts of the benchmark use."""

    servers: Servers
    service: Service
    searches: Searches
    plan: Plan
    wrk: str
    length: float
    """By which what takes long is multiplied: the requests, the documents of exports, the seconds
    of overload."""

    @property
    def elasticsearch(self) -> str:
        """Its address."""
        return "http://{ES_HOST}:{ES_PORT}".format_map(self.servers.variables)

    def ask_service(self, seconds: float, *, timed: bool = False) -> Answers:
        """Searches over the usual number of connections."""
        return send(
            self.wrk,
            self.service.address,
            self.searches.of_service,
            self.servers.folder,
            connections=CONNECTIONS,
            seconds=seconds,
            timed=timed,
        )

    def ask_elasticsearch(self, seconds: float, address: str | None = None) -> Answers:
        """The same of Elasticsearch itself, or of what passes them on to it at an address."""
        return send(
            self.wrk,
            address or self.elasticsearch,
            self.searches.of_elasticsearch,
            self.servers.folder,
            connections=CONNECTIONS,
            seconds=seconds,
        )
