"""JSON over HTTP with the demo's own services."""

import json
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from dev.demo.errors import DemoError


def get(url: str) -> Any:
    """The answer. Raises DemoError when there is none in time, or its status is 400 or more."""
    return _ask("GET", url, None)


def post(url: str, body: object) -> Any:
    """The answer to a JSON body; raises as `get` does."""
    return _ask("POST", url, json.dumps(body))


def _ask(method: str, url: str, body: str | None) -> Any:
    address = urlsplit(url)
    # Not urllib.request: that would go through a proxy which the environment names.
    connection = HTTPConnection(address.netloc, timeout=30)
    try:
        path = f"{address.path}?{address.query}"
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
    except (OSError, HTTPException) as error:
        raise DemoError(f"{url} does not answer: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if response.status >= 400:
        raise DemoError(f"{url}: status {response.status}: {answer.decode(errors='replace')}")
    return json.loads(answer)
