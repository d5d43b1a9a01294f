"""The rules' file as models: roles, the keys and token issuers that give them, and who is nobody.

An unknown or doubled key, role, or id is an error, since a rule that is read as less than it says
shows what it was to hide.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from search_service.caps import FEATURES, Caps
from search_service.limits import Rate, parse_rates

ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
SYMMETRIC = ("HS256", "HS384", "HS512")
_SHORTEST_SECRET = 32  # bytes, RFC 7518 section 3.2 for HS256


class RulesError(Exception):
    """The rules cannot be used: one line for each reason, with the file and the place."""


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True
    )


def _rates(value: str) -> str:
    parse_rates(value)
    return value


Name = Annotated[str, Field(min_length=1, max_length=255)]
Names = Annotated[list[Name], Field(strict=True)]
RateText = Annotated[str, AfterValidator(_rates)]


class Sight(_Model):
    """What a role sees of the indexes that one pattern names.

    `rows` are conditions as in query_fields, where a value may be `{claim: name}`.
    """

    fields: Names | None = None
    hide: Names = Field(default_factory=list)
    rows: dict[str, Any] = Field(default_factory=dict)


class Role(_Model):
    """What its holders see, and how much they may ask for."""

    indices: dict[Name, Sight]
    limits: dict[str, Any] = Field(default_factory=dict)
    features: list[str] | None = None
    rate: RateText | None = None
    metrics: bool = False

    @field_validator("indices", mode="before")
    @classmethod
    def _nothing_is_everything(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: {} if sight is None else sight for name, sight in value.items()}
        return value

    @field_validator("limits")
    @classmethod
    def _are_limits(cls, value: dict[str, Any]) -> dict[str, Any]:
        known = {field.name for field in fields(Caps)} - {"features"}
        for name, given in value.items():
            if name not in known:
                raise ValueError(
                    f"there is no limit {name!r}; there are {', '.join(sorted(known))}"
                )
            if type(given) is not int or given < 0:
                raise ValueError(f"{name} is a whole number, not {given!r}")
        return value

    @field_validator("features")
    @classmethod
    def _are_features(cls, value: list[str] | None) -> list[str] | None:
        for name in set(value or []) - FEATURES:
            known = ", ".join(sorted(FEATURES))
            raise ValueError(f"there is no feature {name!r}; there are {known}")
        return value

    @property
    def rates(self) -> tuple[Rate, ...] | None:
        """The rates that are allowed; None: what the service allows everybody."""
        return None if self.rate is None else parse_rates(self.rate)


class KeyRule(_Model):
    """An API key: its hash, and what it gives."""

    name: Name
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    roles: Names
    claims: dict[str, Any] = Field(default_factory=dict)
    expires: datetime | date | None = None

    @field_validator("expires", mode="before")
    @classmethod
    def _may_be_quoted(cls, value: Any) -> Any:
        return datetime.fromisoformat(value) if isinstance(value, str) else value

    @property
    def ends_at(self) -> float:
        """When the key ceases to be valid, in seconds since 1970."""
        if self.expires is None:
            return float("inf")
        when = self.expires
        if not isinstance(when, datetime):
            when = datetime.combine(when, time())
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


class Issuer(_Model):
    """Whose tokens are accepted, by which keys, and the claims that name the roles."""

    issuer: Name
    audience: Name
    algorithms: list[str]
    jwks: str | None = None
    secret_file: str | None = None
    leeway: int = Field(default=30, ge=0, le=300)
    roles_claim: str = "roles"
    roles: Names = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_kind_of_key(self) -> Self:
        if (self.jwks is None) == (self.secret_file is None):
            raise ValueError("jwks or secret_file says where the keys are: set one of the two")
        allowed = ASYMMETRIC if self.jwks is not None else SYMMETRIC
        # A public key taken for a shared secret would let everybody sign.
        if not self.algorithms or set(self.algorithms) - set(allowed):
            raise ValueError(f"algorithms are some of {', '.join(allowed)} here")
        if self.jwks is not None and self.jwks.startswith("http://") and not _is_near(self.jwks):
            raise ValueError("jwks must be an https address, or a file")
        return self


class Rules(_Model):
    """The whole file."""

    roles: dict[Name, Role]
    keys: list[KeyRule] = Field(default_factory=list)
    tokens: list[Issuer] = Field(default_factory=list)
    anonymous: Names = Field(default_factory=list)

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        users = [(f"key {key.name}", key.roles) for key in self.keys]
        users += [(f"tokens of {issuer.issuer}", issuer.roles) for issuer in self.tokens]
        for user, names in [*users, ("anonymous", self.anonymous)]:
            for name in names:
                if name not in self.roles:
                    raise ValueError(f"{user}: there is no role {name!r}")
        for what, names in (
            ("id of a key", [key.id for key in self.keys]),
            ("issuer", [issuer.issuer for issuer in self.tokens]),
        ):
            doubled = {name for name in names if names.count(name) > 1}
            if doubled:
                raise ValueError(f"the {what} {doubled.pop()} is given twice")
        return self


def _is_near(address: str) -> bool:
    return re.match(r"http://(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?/", address) is not None


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"line {key.start_mark.line + 1}: the key {key.value!r} is given twice"
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_rules(path: Path) -> Rules:
    """The rules in a file.

    Raises:
        RulesError: it cannot be read, or something in it is wrong.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe loader
    except OSError as error:
        raise RulesError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # not UTF-8, or a date such as 2013-02-30
        reason = getattr(error, "problem", None) or type(error).__name__
        raise RulesError(f"{path}: is no YAML: {reason}") from None
    if not isinstance(data, dict):
        raise RulesError(f"{path}: a mapping with the key 'roles' is expected at the top")
    try:
        return Rules.model_validate(data)
    except ValidationError as error:
        lines = [
            f"{path}: {_place(data, item['loc'])}{_reason(item['type'], item['msg'])}"
            for item in error.errors(include_url=False, include_input=False)
        ]
        raise RulesError("\n".join(lines)) from None


def read_secret(path: str) -> bytes:
    """The shared secret in a file, without the line end that an editor adds.

    Raises:
        RulesError: it cannot be read, or is too short to be safe.
    """
    try:
        secret = Path(path).read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise RulesError(f"{path}: cannot be read: {error.strerror}") from None
    if len(secret) < _SHORTEST_SECRET:
        raise RulesError(f"{path}: a shared secret has at least {_SHORTEST_SECRET} bytes")
    return secret


def _place(data: Mapping[str, Any], location: tuple[int | str, ...]) -> str:
    parts = [str(part) for part in location]
    if len(location) >= 2 and location[0] == "keys" and isinstance(location[1], int):
        entry = data["keys"][location[1]]
        named = entry.get("name") if isinstance(entry, dict) else None
        parts[:2] = [f"key {named or location[1] + 1}"]
    return "".join(f"{part}: " for part in parts)


def _reason(kind: str, message: str) -> str:
    reasons = {
        "extra_forbidden": "no such key",
        "missing": "is missing",
        "list_type": "a list is expected",
        "model_type": "a mapping is expected: key, colon, value",
        "dict_type": "a mapping is expected: key, colon, value",
        "string_type": "text is expected",
    }
    return reasons.get(kind) or message.removeprefix("Value error, ")
