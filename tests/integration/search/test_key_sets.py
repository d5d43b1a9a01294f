"""An issuer's public keys, read over HTTP: when they are asked for, and what if they cannot be."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from search_service.access import tokens
from search_service.access.tokens import KeySet, NoKeysError

pytestmark = pytest.mark.anyio


class Issuer:
    """Publishes keys; `status` and `names` may be changed, `asked` counts."""

    def __init__(self) -> None:
        self.names = ["one"]
        self.status = 200
        self.asked = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        keys = []
        for name in self.names:
            public = ec.generate_private_key(ec.SECP256R1()).public_key()
            keys.append({**json.loads(ECAlgorithm.to_jwk(public)), "kid": name})
        return web.json_response({"keys": keys}, status=self.status)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    app = web.Application()
    app.router.add_get("/jwks", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    yield made
    await runner.cleanup()


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
    issuer.status = 500
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
