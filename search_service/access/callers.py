"""From a request's credentials to its caller, by rules that follow their file."""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import structlog

from search_service.access import keys
from search_service.access.policies import Everything, Policy, claim_or_none
from search_service.access.rules import Issuer, KeyRule, Rules, RulesError, read_rules
from search_service.access.tokens import BadTokenError, NoKeysError, Token, Tokens
from search_service.caps import Caps
from search_service.errors import ServiceError
from search_service.indices import Index
from search_service.limits import Rate

log = structlog.get_logger(__name__)

_LOOK_AGAIN = 1.0  # seconds between two looks at the file
_MOST_TOKENS = 4096
_TOKEN_SECONDS = 60.0  # for which a verified token is not verified again
_MOST_VIEWS = 256


@dataclass(slots=True, eq=False)
class Caller:
    """Who asks: a name for the log, whose requests are counted together, and what it may do."""

    name: str
    counted_as: str
    policy: Policy
    claims: Mapping[str, Any] = field(default_factory=dict)
    _views: dict[Index, Index | None] = field(default_factory=dict)

    @property
    def limits(self) -> Caps:
        """What a request may ask for at most."""
        return self.policy.caps

    @property
    def rates(self) -> tuple[Rate, ...] | None:
        """The rates of the caller's roles; None: the service's own."""
        return self.policy.rates

    def view(self, index: Index) -> Index | None:
        """The index as it is for this caller; None: for it there is no such index."""
        if index not in self._views:
            if len(self._views) >= _MOST_VIEWS:  # of generations that are gone
                self._views.clear()
            self._views[index] = self.policy.view(index, self.claims)
        return self._views[index]


class Callers:
    """Knows callers by the rules in a file, as they are now; without a file everybody is one."""

    def __init__(self, path: Path | None, caps: Caps) -> None:
        """Raises RulesError: the file cannot be used."""
        self._path = path
        self._caps = caps
        self._known = _Known(read_rules(path), caps) if path else None
        self._everybody = Everything(caps)
        self._seen = self._stamp()
        self._look_at = time.monotonic() + _LOOK_AGAIN
        self._loading: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether there are rules at all."""
        return self._known is not None

    async def identify(self, credentials: str | None, address: str) -> Caller:
        """The caller with these credentials (an API key or a token), or without any at an address.

        Raises:
            search_service.errors.ServiceError: they are not accepted.
        """
        self._follow()
        known = self._known
        if known is None:
            return Caller("anonymous", f"address {address}", self._everybody)
        if credentials is None:
            return Caller("anonymous", f"address {address}", known.anonymous)
        if credentials.startswith(keys.PREFIX):
            return known.by_key(credentials)
        return await known.by_token(credentials)

    def _follow(self) -> None:
        """Look for a new file once in a while, and read it beside the requests."""
        if self._path is None or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_AGAIN
        stamp = self._stamp()
        if stamp != self._seen and (self._loading is None or self._loading.done()):
            self._seen = stamp
            self._loading = asyncio.create_task(self._load())

    async def _load(self) -> None:
        assert self._path is not None
        try:
            self._known = await asyncio.to_thread(self._read, self._path)
        except RulesError as error:
            # The reason names files and places, and no secret.
            log.warning("access_rules_unusable", reason=str(error), remedy="the old rules hold")
        else:
            log.info("access_rules_read", file=str(self._path))

    def _read(self, path: Path) -> "_Known":
        return _Known(read_rules(path), self._caps)

    def _stamp(self) -> tuple[tuple[int, ...], ...]:
        """What changes with the files, also where a name is a link that is turned, as Kubernetes
        does with what it mounts."""
        if self._path is None:
            return ()
        files = [self._path, *(self._known.files if self._known else ())]
        return tuple(_stamp(file) for file in files)


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ino, found.st_size


class _Known:
    """The callers of one reading of the rules."""

    def __init__(self, rules: Rules, caps: Caps) -> None:
        self._rules = rules
        self._caps = caps
        self._policies: dict[tuple[str, ...], Policy] = {}
        self.anonymous = self._policy(rules.anonymous)
        self._keys = {rule.id: (rule, self._key_caller(rule)) for rule in rules.keys}
        self._tokens = Tokens(rules.tokens)
        self._verified: dict[bytes, tuple[float, Caller]] = {}
        sources = [issuer.secret_file or issuer.jwks for issuer in rules.tokens]
        self.files = [Path(source) for source in sources if source and "://" not in source]

    def by_key(self, text: str) -> Caller:
        rule, caller = self._keys.get(keys.id_of(text), (None, None))
        # An unknown id takes as long as a wrong secret.
        right = keys.matches(text, rule.sha256 if rule else "")
        if rule is None or caller is None or not right:
            refuse("The API key is not known here.")
        if time.time() >= rule.ends_at:
            refuse("The API key has expired; ask for a new one.")
        return caller

    async def by_token(self, text: str) -> Caller:
        name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        until, caller = self._verified.get(name, (0.0, None))
        now = time.time()
        if caller is not None and now < until:
            return caller
        try:
            token = await self._tokens.verify(text)
        except BadTokenError as error:
            refuse(f"The token {error}.")
        except NoKeysError:
            detail = "The keys of the token's issuer cannot be read now. Try again later."
            raise ServiceError(
                503,
                "issuer-away",
                "Tokens cannot be verified",
                detail,
                headers={"Retry-After": "5"},
            ) from None
        caller = self._token_caller(token)
        while len(self._verified) >= _MOST_TOKENS:
            del self._verified[next(iter(self._verified))]
        self._verified[name] = (min(token.ends_at, now + _TOKEN_SECONDS), caller)
        return caller

    def _key_caller(self, rule: KeyRule) -> Caller:
        return Caller(f"key {rule.name}", f"key {rule.id}", self._policy(rule.roles), rule.claims)

    def _token_caller(self, token: Token) -> Caller:
        roles = [*token.issuer.roles, *_roles(token.issuer, token.claims)]
        subject = token.claims.get("sub") or token.claims.get("client_id") or "unnamed"
        counted = f"token {token.issuer.issuer} {subject}"
        policy = self._policy([role for role in roles if role in self._rules.roles])
        return Caller(f"token {subject}", counted, policy, token.claims)

    def _policy(self, names: list[str]) -> Policy:
        roles = tuple(sorted(set(names)))
        if roles not in self._policies:
            self._policies[roles] = Policy([self._rules.roles[name] for name in roles], self._caps)
        return self._policies[roles]


def _roles(issuer: Issuer, claims: Mapping[str, Any]) -> list[str]:
    """The names in the claim for roles: a list, or a text with spaces as `scope` has them."""
    found = claim_or_none(claims, issuer.roles_claim)
    if isinstance(found, str):
        return found.split()
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def refuse(detail: str) -> NoReturn:
    """Raise the error for credentials that are missing or not accepted."""
    raise ServiceError(
        401,
        "unauthenticated",
        "Not authenticated",
        detail,
        headers={"WWW-Authenticate": 'Bearer realm="pg-es-search"'},
    )
