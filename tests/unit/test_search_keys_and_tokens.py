"""Credentials: API keys and JSON Web Tokens, and who they say the caller is."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from search_service.access import callers, keys
from search_service.access.callers import Caller, Callers
from search_service.access.rules import RulesError
from search_service.caps import Caps
from search_service.errors import ServiceError

pytestmark = pytest.mark.anyio

ISSUER = "https://id.example.com/"
SECRET = "a shared secret of thirty-two bytes or more"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ROLE: dict[str, Any] = {"indices": {"*": None}}

Known = Callable[..., Callers]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def known(tmp_path: Path) -> Known:
    """Callers by the rules given, with a role `reader` and the issuer's keys beside them."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    published = [
        {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key())), "kid": "rsa"},
        {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key())), "kid": "ec"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"},
        {"kty": "new", "kid": "of tomorrow"},
    ]
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": published}))

    def make(**rules: Any) -> Callers:
        file = tmp_path / "access.yaml"
        file.write_text(yaml.safe_dump({"roles": {"reader": ROLE}, **rules}))
        return Callers(file, Caps())

    return make


def shared(tmp_path: Path, **options: Any) -> dict[str, Any]:
    return {
        "issuer": ISSUER,
        "audience": "search",
        "algorithms": ["HS256"],
        "secret_file": str(tmp_path / "secret"),
        **options,
    }


def published(tmp_path: Path, **options: Any) -> dict[str, Any]:
    return {
        "issuer": ISSUER,
        "audience": "search",
        "algorithms": ["RS256", "ES256"],
        "jwks": str(tmp_path / "jwks.json"),
        **options,
    }


def token(
    key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **claims: Any
) -> str:
    content: dict[str, Any] = {
        "iss": ISSUER,
        "aud": "search",
        "sub": "ann",
        "exp": time.time() + 300,
        "roles": ["reader"],
        **claims,
    }
    present = {name: value for name, value in content.items() if value is not None}
    return jwt.encode(present, key, algorithm, headers={"kid": kid} if kid else None)


async def identify(known: Callers, credentials: str | None) -> Caller:
    return await known.identify(credentials, "10.0.0.1")


async def refused(known: Callers, credentials: str | None) -> str:
    with pytest.raises(ServiceError) as caught:
        await identify(known, credentials)
    assert caught.value.status == 401
    assert caught.value.headers == {"WWW-Authenticate": 'Bearer realm="pg-es-search"'}
    if credentials:
        assert credentials not in caught.value.detail
    return caught.value.detail


def rule(key: keys.NewKey, **options: Any) -> dict[str, Any]:
    given = {"name": "shop", "id": key.id, "sha256": key.sha256, "roles": ["reader"]}
    return {**given, **options}


async def test_a_key_is_known_by_its_hash_and_named_in_the_log(known: Known) -> None:
    key = keys.make()
    caller = await identify(known(keys=[rule(key)]), key.text)
    assert caller.name == "key shop"
    assert not caller.policy.nothing


def test_two_keys_differ_and_their_entry_does_not_tell_them() -> None:
    one, other = keys.make(), keys.make()
    assert one.text != other.text
    assert one.id != other.id
    assert one.text.startswith(f"pges_{one.id}_")
    assert one.text.rpartition("_")[2] not in one.sha256


async def test_a_key_that_is_not_exactly_right_is_refused(known: Known) -> None:
    key, other = keys.make(), keys.make()
    shop = known(keys=[rule(key)])
    for text in (
        other.text,
        key.text[:-1],
        key.text + "a",
        f"pges_{key.id}_{other.text.split('_', 2)[2]}",
        "pges_",
        "pges_é",
        f"pges_{key.id}_",
        key.sha256,
    ):
        await refused(shop, text)


async def test_an_expired_key_is_refused(known: Known) -> None:
    key = keys.make()
    assert "expired" in await refused(known(keys=[rule(key, expires="2020-01-01")]), key.text)
    later = known(keys=[rule(key, expires="2999-01-01T12:00:00+02:00")])
    assert (await identify(later, key.text)).name == "key shop"


async def test_nobody_is_anonymous_with_the_roles_that_the_rules_give(known: Known) -> None:
    assert (await identify(known(), None)).policy.nothing
    assert not (await identify(known(anonymous=["reader"]), None)).policy.nothing


async def test_a_token_of_a_shared_secret(known: Known, tmp_path: Path) -> None:
    caller = await identify(known(tokens=[shared(tmp_path)]), token())
    assert caller.name == "token ann"
    assert caller.claims["sub"] == "ann"
    assert not caller.policy.nothing


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec")], ids=["RSA", "EC"]
)
async def test_a_token_of_a_published_key(
    known: Known, tmp_path: Path, key: Any, algorithm: str, kid: str
) -> None:
    issuer = known(tokens=[published(tmp_path)])
    assert (await identify(issuer, token(key, algorithm, kid))).name == "token ann"
    detail = await refused(issuer, token(key, algorithm, "unknown"))
    assert "does not publish" in detail


def unsigned(**claims: Any) -> str:
    return token("", "none", **claims)


def confused() -> str:
    """A token signed with the public key, as if that were a shared secret."""
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head, body, _ = token("x" * 32, "HS256", "rsa").split(".")
    mac = hmac.digest(public, f"{head}.{body}".encode(), hashlib.sha256)
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


BAD = {
    "expired": (lambda: token(exp=time.time() - 60), "expired"),
    "no end": (lambda: token(exp=None), "lacks the claim exp"),
    "an end that is no number": (lambda: token(exp="tomorrow"), "not right"),
    "too early": (lambda: token(nbf=time.time() + 600), "not valid yet"),
    "other audience": (lambda: token(aud="billing"), "another audience"),
    "no audience": (lambda: token(aud=None), "lacks the claim aud"),
    "other issuer": (lambda: token(iss="https://evil.example.com/"), "issuer"),
    "no issuer": (lambda: token(iss=None), "issuer"),
    "other secret": (lambda: token("x" * 32), "not right"),
    "other algorithm": (lambda: token(SECRET * 2, "HS512"), "algorithm"),
    "unsigned": (unsigned, "algorithm"),
    "cut": (lambda: token()[:-3], "not right"),
    "no token": (lambda: "abc", "neither"),
    "dots": (lambda: "..", "neither"),
    "endless": (lambda: token(more="x" * 20_000), "longer"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_token_that_is_not_right_is_refused(
    known: Known, tmp_path: Path, case: str
) -> None:
    make, word = BAD[case]
    assert word in await refused(known(tokens=[shared(tmp_path)]), make())


async def test_a_public_key_is_no_shared_secret(known: Known, tmp_path: Path) -> None:
    issuer = known(tokens=[published(tmp_path)])
    assert "algorithm" in await refused(issuer, confused())
    assert "algorithm" in await refused(issuer, unsigned())
    assert "algorithm" in await refused(issuer, token("secret" * 8, "HS256", "oct"))


@pytest.mark.parametrize(
    "options",
    [
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"algorithms": []},
        {"secret_file": "secret"},
        {"jwks": "http://id.example.com/jwks"},
    ],
    ids=str,
)
def test_rules_that_would_accept_forged_tokens_are_refused(
    known: Known, tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(RulesError):
        known(tokens=[published(tmp_path, **options)])


async def test_a_clock_a_little_off_is_allowed_for(known: Known, tmp_path: Path) -> None:
    late = token(exp=time.time() - 10)
    assert (await identify(known(tokens=[shared(tmp_path)]), late)).name == "token ann"
    await refused(known(tokens=[shared(tmp_path, leeway=0)]), late)


@pytest.mark.parametrize(
    ("claims", "options", "nothing"),
    [
        ({"roles": []}, {}, True),
        ({"roles": None}, {}, True),
        ({"roles": ["of another service"]}, {}, True),
        ({"roles": [["reader"], 1]}, {}, True),
        ({"roles": "other reader"}, {}, False),
        ({"scope": "openid reader"}, {"roles_claim": "scope"}, False),
        ({"realm": {"roles": ["reader"]}}, {"roles_claim": "realm.roles"}, False),
        ({"roles": None}, {"roles": ["reader"]}, False),
    ],
)
async def test_roles_come_from_a_claim_or_from_the_issuer(
    known: Known, tmp_path: Path, claims: Any, options: Any, nothing: bool
) -> None:
    issuer = known(tokens=[shared(tmp_path, **options)])
    assert (await identify(issuer, token(**claims))).policy.nothing is nothing


async def test_a_verified_token_is_verified_again_after_a_while_and_never_after_its_end(
    known: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = known(tokens=[shared(tmp_path, leeway=0)])
    text = token(exp=time.time() + 30)
    first = await identify(issuer, text)
    assert await identify(issuer, text) is first
    now = time.time
    monkeypatch.setattr(callers.time, "time", lambda: now() + 31)
    assert await identify(issuer, token(exp=now() + 300)) is not first
    # The clock of the cache alone is moved: the token is looked at again.
    assert await identify(issuer, text) is not first


def test_a_file_of_keys_that_is_none_is_refused_at_once(known: Known, tmp_path: Path) -> None:
    for content in ("", "{}", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "YQ"}]}'):
        (tmp_path / "jwks.json").write_text(content)
        with pytest.raises(RulesError, match=r"jwks\.json"):
            known(tokens=[published(tmp_path)])


def test_a_short_shared_secret_is_refused(known: Known, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    with pytest.raises(RulesError, match="32 bytes") as caught:
        known(tokens=[shared(tmp_path)])
    assert "hunter2" not in str(caught.value)
