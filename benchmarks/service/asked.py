"""What is asked of the service, and what that makes of it for Elasticsearch."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.servers import Servers
from benchmarks.service.process import CLAIMS, RULES, Service
from search_service.access.policies import Policy
from search_service.access.rules import Rules
from search_service.caps import Caps
from search_service.indices import served
from search_service.models import SearchRequest
from search_service.query import search_body

INDEX = "narrow"
DIFFERENT = 500
"""So many searches are asked in turn, so that none is the last one again."""

PAGE = 10

_DIRECT = "/{}/_search?allow_partial_search_results=false"


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def head(self) -> dict[str, str]:
        return dict(self.headers)


class Searches:
    """The same searches for the service and for Elasticsearch: filtered, sorted, ten documents."""

    def __init__(self, servers: Servers, service: Service, rng: random.Random) -> None:
        self._service = service
        bodies = [wanted(rng) for _ in range(DIFFERENT)]
        self.of_service = [self.ask("POST", "/search", body) for body in bodies]
        self.of_elasticsearch = list(_direct(servers, bodies))

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Asked:
        """A request of a caller with a key."""
        headers = (("Authorization", f"Bearer {self._service.key}"),)
        if body is None:
            return Asked(method, path, "", headers)
        return Asked(method, path, json.dumps(body), (*headers, *_JSON))


_JSON = (("Content-Type", "application/json"),)


def wanted(rng: random.Random) -> dict[str, Any]:
    """A search of the table as an application has it: by a status and an amount, the newest."""
    lowest = rng.randrange(900)
    return {
        "index": INDEX,
        "query_fields": {
            "status": rng.choice(CLAIMS["statuses"]),
            "amount": {"gte": lowest, "lt": lowest + 100},
        },
        "sort_by": {"placed": "desc"},
        "page_size": PAGE,
    }


def _direct(servers: Servers, bodies: list[dict[str, Any]]) -> Iterator[Asked]:
    """What the service asks for them, by its own code: the policy's part, and the order's."""
    with servers.client() as client:
        index = served(client.indices.get(index="*").body)[INDEX]
    [role] = Rules.model_validate(RULES).roles.values()
    seen = Policy([role], Caps()).view(index, CLAIMS)
    assert seen is not None
    for body in bodies:
        query = search_body(SearchRequest(**body), seen, PAGE)
        yield Asked("POST", _DIRECT.format(index.generation), json.dumps(query), _JSON)
