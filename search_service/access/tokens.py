"""JSON Web Tokens: whose they are, by the keys and the claims that the rules ask for."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import HTTPRedirectHandler, build_opener

import jwt
import structlog

from search_service.access.rules import Issuer, RulesError, read_secret

log = structlog.get_logger(__name__)

_FETCH_SECONDS = 5.0
_MOST_BYTES = 1_048_576
_MOST_CHARACTERS = 16_384  # of a token
_FRESH = 3600.0  # seconds for which a key set is not asked for again by itself
_ASK_AGAIN = 30.0  # seconds between two requests, however many unknown keys are named


class BadTokenError(Exception):
    """The token is not accepted; the message says why, in words for its holder."""


class NoKeysError(Exception):
    """The issuer's keys have never been read, so that nothing can be said of its tokens."""


@dataclass(frozen=True, slots=True)
class Token:
    """A verified token: its issuer's rules, its claims, and when it ends (seconds since 1970)."""

    issuer: Issuer
    claims: Mapping[str, Any]
    ends_at: float


class Tokens:
    """Verifies the tokens of several issuers."""

    def __init__(self, issuers: Sequence[Issuer]) -> None:
        self._keys: dict[str, tuple[Issuer, Secret | KeySet]] = {}
        for issuer in issuers:
            if issuer.secret_file is not None:
                keys: Secret | KeySet = Secret(read_secret(issuer.secret_file))
            else:
                assert issuer.jwks is not None
                keys = KeySet(issuer.jwks)
            self._keys[issuer.issuer] = (issuer, keys)

    async def verify(self, text: str) -> Token:
        """The token, once its signature, issuer, audience and times are found right.

        Raises:
            BadTokenError: it is not accepted.
            NoKeysError: the issuer's keys cannot be had now.
        """
        if len(text) > _MOST_CHARACTERS:
            raise BadTokenError("is longer than any that is accepted")
        try:
            header = jwt.get_unverified_header(text)
            claimed = jwt.decode(text, options={"verify_signature": False})
        except (jwt.InvalidTokenError, RecursionError):
            raise BadTokenError("is neither an API key of this service nor a JWT") from None
        name = claimed.get("iss")
        known = self._keys.get(name) if isinstance(name, str) else None
        if known is None:
            raise BadTokenError("comes from an issuer that is not accepted here")
        issuer, keys = known
        if header.get("alg") not in issuer.algorithms:
            raise BadTokenError("is signed by an algorithm that is not accepted here")
        key = await keys.find(header.get("kid"), header["alg"])
        if key is None:
            raise BadTokenError("is signed by a key that its issuer does not publish")
        try:
            claims = jwt.decode(
                text,
                key,
                algorithms=[header["alg"]],
                audience=issuer.audience,
                issuer=issuer.issuer,
                leeway=issuer.leeway,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise BadTokenError("has expired") from None
        except jwt.ImmatureSignatureError:
            raise BadTokenError("is not valid yet") from None
        except jwt.InvalidAudienceError:
            raise BadTokenError("is meant for another audience") from None
        except jwt.MissingRequiredClaimError as error:
            raise BadTokenError(f"lacks the claim {error.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            raise BadTokenError("has a signature or a claim that is not right") from None
        return Token(issuer, claims, float(claims["exp"]) + issuer.leeway)


class Secret:
    """One shared key."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    async def find(self, name: object, algorithm: str) -> bytes:
        """The key, whatever it is called."""
        return self._secret


class KeySet:
    """An issuer's public keys (RFC 7517), in a file or at an address.

    A set at an address is read again when it is an hour old, and, for keys that have just come into
    use, when a token names an unknown one. While that fails, the set that is known is used.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._keys: list[_Key] = []
        self._refreshing: asyncio.Task[None] | None = None
        self._read_at = self._asked_at = float("-inf")
        self._asking = asyncio.Lock()
        if not self._is_address:
            try:
                self._take(Path(source).read_bytes())
            except OSError as error:
                raise RulesError(f"{source}: cannot be read: {error.strerror}") from None
            except _NoKeySetError as error:
                raise RulesError(f"{source}: {error}") from None

    async def find(self, name: object, algorithm: str) -> Any:
        """The key of that id, for that algorithm; a token without an id is signed by the only key.

        Raises:
            NoKeysError: no key set could be read so far.
        """
        key = self._known(name)
        if self._is_address:
            if key is None:
                await self._ask()
                key = self._known(name)
            elif time.monotonic() - self._read_at > _FRESH:
                self._refreshing = asyncio.create_task(self._ask())
        if not self._keys:
            raise NoKeysError
        if key is None or key.algorithm not in {None, algorithm}:
            return None
        return key.public

    @property
    def _is_address(self) -> bool:
        return self._source.startswith(("https://", "http://"))

    def _known(self, name: object) -> "_Key | None":
        if name is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.name == name), None)

    async def _ask(self) -> None:
        async with self._asking:
            if time.monotonic() - self._asked_at < _ASK_AGAIN:
                return
            self._asked_at = time.monotonic()
            try:
                self._take(await _fetch(self._source))
            except (HTTPException, OSError, _NoKeySetError) as error:
                log.warning("jwks_unreadable", source=self._source, reason=type(error).__name__)

    def _take(self, content: bytes) -> None:
        try:
            entries = [key for key in json.loads(content)["keys"] if key.get("use", "sig") == "sig"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise _NoKeySetError("is no JSON Web Key Set") from None
        found = []
        for entry in entries:
            try:
                key = jwt.PyJWK(entry)
            except (jwt.PyJWTError, ValueError, TypeError):
                continue  # of a kind that is not known here, as RFC 7517 section 5 wants it
            if key.key_type != "oct":  # a secret that is published signs for everybody
                found.append(_Key(key.key_id, entry.get("alg"), key.key))
        if not found:
            raise _NoKeySetError("has no public key that can be used")
        self._keys = found
        self._read_at = time.monotonic()


@dataclass(frozen=True, slots=True)
class _Key:
    name: str | None
    algorithm: str | None
    """The only one that it may be used for; None: its issuer does not say."""
    public: Any


class _NoKeySetError(Exception):
    """What was read is no key set."""


async def _fetch(address: str) -> bytes:
    async with asyncio.timeout(_FETCH_SECONDS):
        return await asyncio.to_thread(_read, address)


def _read(address: str) -> bytes:
    with _opener.open(address, timeout=_FETCH_SECONDS) as answer:
        if answer.status != 200:
            raise _NoKeySetError(f"answers {answer.status}")
        content: bytes = answer.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise _NoKeySetError("is too large")
    return content


class _NoRedirects(HTTPRedirectHandler):
    """The rules name the place of the keys, and no other is asked."""

    def redirect_request(self, *_given: object) -> None:
        """As `HTTPRedirectHandler`."""


_opener = build_opener(_NoRedirects)
