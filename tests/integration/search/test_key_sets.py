"""An issuer's public keys, read over HTTP: when they are asked for, and what if they cannot be."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from search_service.access import tokens
from search_service.access.tokens import KeySet, NoKeysError

pytestmark = pytest.mark.anyio


class Issuer(ThreadingHTTPServer):
    """Publishes keys; `status` and `names` may be changed, `asked` counts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.names = ["one"]
        self.status = 200
        self.asked = 0
        self.url = f"http://127.0.0.1:{self.server_port}/jwks"


class Answer(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        self.server.asked += 1
        keys = []
        for name in self.server.names:
            public = ec.generate_private_key(ec.SECP256R1()).public_key()
            keys.append({**json.loads(ECAlgorithm.to_jwk(public)), "kid": name})
        content = json.dumps({"keys": keys}).encode()
        self.send_response(self.server.status)
        self.send_header("Location", f"{self.server.url}?elsewhere")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as made:
        Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


async def find(keys: KeySet, name: str) -> Any:
    return await keys.find(name, "ES256")


async def test_keys_are_read_once_and_again_for_an_unknown_one_but_not_often(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeySet(issuer.url)
    assert await find(keys, "one")
    assert await find(keys, "one")
    assert issuer.asked == 1
    issuer.names = ["two"]
    for name in ("two", "three", "four"):
        assert await find(keys, name) is None
    assert issuer.asked == 1  # a token's maker does not say how often the issuer is asked
    monkeypatch.setattr(tokens, "_ASK_AGAIN", 0.0)
    assert await find(keys, "two")
    assert await find(keys, "one") is None


async def test_an_old_key_set_is_read_again_beside_the_requests(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_ASK_AGAIN", 0.0)
    monkeypatch.setattr(tokens, "_FRESH", -1.0)
    keys = KeySet(issuer.url)
    await find(keys, "one")
    issuer.names = ["two"]
    assert await find(keys, "one")
    assert keys._refreshing is not None
    await keys._refreshing
    assert await find(keys, "two")


async def test_known_keys_hold_while_the_issuer_is_away(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_ASK_AGAIN", 0.0)
    keys = KeySet(issuer.url)
    for issuer.status in (500, 204, 302):
        with pytest.raises(NoKeysError):
            await find(keys, "one")
    issuer.status = 200
    assert await find(keys, "one")
    issuer.status = 500
    assert await find(keys, "two") is None
    assert await find(keys, "one")


async def test_a_key_is_used_for_its_own_algorithm_alone(issuer: Issuer) -> None:
    keys = KeySet(issuer.url)
    assert await find(keys, "one")
    keys._keys[0] = tokens._Key("one", "ES256", keys._keys[0].public)
    assert await keys.find("one", "ES384") is None
