"""Three searches over HTTP, each as the curl command that makes it and what comes back."""

import json
import os
import shlex
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from rich.console import Console

from dev.demo import web
from dev.demo.services import HOST, Services, free_port, listens


@dataclass(frozen=True)
class Search:
    """A request of the search service: a body for POST, or none for GET."""

    title: str
    path: str
    body: dict[str, Any] | None = None

    def curl(self, url: str) -> str:
        """The command for a shell."""
        if self.body is None:
            return f"curl -s {shlex.quote(url + self.path)}"
        return (
            f"curl -s {url}{self.path} -H 'Content-Type: application/json' -d "
            f"{shlex.quote(json.dumps(self.body))}"
        )

    def ask(self, url: str) -> Any:
        """The service's answer. Raises DemoError."""
        if self.body is None:
            return web.get(url + self.path)
        return web.post(url + self.path, self.body)


SEARCHES = (
    Search(
        "From JFK to Los Angeles, more than two hours late, the latest first",
        "/search",
        {
            "index": "flights",
            "query_fields": {"origin": "JFK", "dest": "LAX", "dep_delay": {"gte": 120}},
            "fields": ["time_hour", "carrier", "flight", "tailnum", "dep_delay"],
            "sort_by": {"dep_delay": "desc"},
            "page_size": 3,
        },
    ),
    Search(
        "Two airlines out of LaGuardia at Christmas, in the order of their departures",
        "/search",
        {
            "index": "flights",
            "query_fields": {
                "carrier": ["AA", "DL"],
                "origin": "LGA",
                "time_hour": {"gte": "2013-12-24", "lte": "2013-12-25"},
            },
            "fields": ["time_hour", "carrier", "flight", "dest"],
            "sort_by": {"time_hour": "asc", "carrier": "asc"},
            "page_size": 3,
        },
    ),
    Search(
        "All planes, page by page: `cursor=` and the next_cursor of a page lead to the one after",
        "/search/planes/scroll?"
        + urlencode({"size": 3, "fields": "tailnum,manufacturer,model,year"}, safe=","),
    ),
)


class SearchService:
    """The search service, and the three searches of it."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._port = free_port(int(os.environ.get("SEARCH_PORT") or 8000))
        self.url = f"http://{HOST}:{self._port}"

    def start(self) -> None:
        """Starts it; `wait` returns when it answers."""
        self._services.start("pg-es-search", SEARCH_HOST=HOST, SEARCH_PORT=str(self._port))

    def wait(self) -> None:
        """Raises DemoError when it does not come up."""
        self._services.wait("pg-es-search", lambda: listens(self._port))

    def show(self, console: Console) -> None:
        """Makes the searches and prints them. Raises DemoError when one fails."""
        for search in SEARCHES:
            answer = search.ask(self.url)
            _print(console, f"\n{search.title}", "bold")
            _print(console, f"$ {search.curl(self.url)}", "cyan")
            for document in answer["data"]:
                _print(console, f"  {json.dumps(document)}")
            _print(console, f"  {answer['meta']['total_records']:,} found", "dim")


def _print(console: Console, text: str, style: str | None = None) -> None:
    """As it is: a command that is wrapped, or taken for markup, could not be copied."""
    console.print(text, style=style, markup=False, soft_wrap=True)
