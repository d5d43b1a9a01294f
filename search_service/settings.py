"""Where Elasticsearch is and how the service behaves: the environment, or a `.env` file here."""

import secrets
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from search_service.limits import parse_rates

_REDIS = ("redis://", "rediss://", "unix://")

Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """Each field is the environment variable of the same name; an empty variable is an unset one.

    Raises:
        pydantic.ValidationError: a variable is missing or has no valid value.
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    es_host: str = Field(description="host name or address of Elasticsearch, without a scheme")
    es_port: Port = Field(default=9200, description="its HTTP port")
    es_user: str | None = Field(default=None, description="user, together with ES_PASSWORD")
    es_password: SecretStr | None = Field(default=None, description="the user's password")
    es_api_key: SecretStr | None = Field(default=None, description="an API key instead of a user")
    es_use_ssl: bool = Field(default=False, description="speak HTTPS")
    es_ca_certs: FilePath | None = Field(default=None, description="PEM file of trusted CAs")

    search_host: str = Field(default="127.0.0.1", description="address to listen on")
    search_port: Port = Field(default=8000, description="port to listen on")
    search_timeout: float = Field(
        default=10.0, gt=0, le=3600, description="seconds that Elasticsearch has for one request"
    )
    search_workers: int = Field(
        default=1, ge=1, le=256, description="processes that answer requests"
    )
    search_secret: SecretStr | None = Field(
        default=None,
        description="seals cursors, at least 16 characters; on a change the old one after a comma; "
        "unset: made at each start",
    )
    search_cursor_ttl: int = Field(
        default=300, ge=10, le=86_400, description="seconds that a cursor in a walk is good for"
    )
    search_max_walks: int = Field(
        default=100, ge=1, le=10_000, description="walks with cursors and exports at once"
    )
    search_max_page_size: int = Field(
        default=1000, ge=1, le=10_000, description="most documents in one answer"
    )
    search_max_lag: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="seconds of sync lag from which /health says degraded; unset: only reported",
    )
    search_access: Path | None = Field(
        default=None, description="YAML file of roles, API keys, and token issuers"
    )
    search_open: bool = Field(
        default=False, description="serve everybody everything, also where others can reach it"
    )
    search_rate_limit: str | None = Field(
        default=None, description="requests of one caller, such as 100/second;1000/minute"
    )
    search_redis_url: SecretStr | None = Field(
        default=None, description="Redis in which all processes count requests together"
    )
    search_max_concurrency: int = Field(
        default=32, ge=1, le=10_000, description="searches under way at once in a process"
    )

    @field_validator("es_host")
    @classmethod
    def _host_only(cls, value: str) -> str:
        if "/" in value or value.count(":") == 1:
            raise ValueError("must be a host name alone: the port is ES_PORT, https is ES_USE_SSL")
        return value.strip("[]")

    @field_validator("search_secret")
    @classmethod
    def _long_secrets(cls, value: SecretStr | None) -> SecretStr | None:
        if value and any(len(one.strip()) < 16 for one in value.get_secret_value().split(",")):
            raise ValueError(
                "a secret has at least 16 characters; make one with: openssl rand -hex 32"
            )
        return value

    @field_validator("search_rate_limit")
    @classmethod
    def _is_rate(cls, value: str | None) -> str | None:
        if value is not None:
            parse_rates(value)
        return value

    @field_validator("search_redis_url")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(_REDIS):
            raise ValueError("must be such as redis://host:6379/0 or rediss://:password@host:6380")
        return value

    @model_validator(mode="after")
    def _is_closed_or_said_to_be_open(self) -> "Settings":
        if self.search_access is not None and self.search_open:
            raise ValueError("SEARCH_OPEN and SEARCH_ACCESS exclude each other: unset one of them")
        if self.search_access is None and not self.search_open and not _is_near(self.search_host):
            raise ValueError(
                f"SEARCH_HOST={self.search_host} can be reached from other machines, and nothing "
                "says who may read what. Name a file of roles and keys in SEARCH_ACCESS (`pg-es-"
                "search key NAME` makes a key), or set SEARCH_OPEN=true if everybody who reaches "
                "the service may read every index"
            )
        return self

    @model_validator(mode="after")
    def _user_has_password(self) -> "Settings":
        if (self.es_user is None) != (self.es_password is None):
            raise ValueError("ES_USER and ES_PASSWORD belong together: set both, or neither")
        if self.es_user is not None and self.es_api_key is not None:
            raise ValueError("set ES_API_KEY, or ES_USER and ES_PASSWORD, not all of them")
        return self


def secrets_of(settings: Settings) -> list[str]:
    """What cursors are sealed with: the present secret first, then the ones before."""
    if settings.search_secret is None:
        return [secrets.token_hex(32)]
    return [one.strip() for one in settings.search_secret.get_secret_value().split(",")]


def _is_near(host: str) -> bool:
    """Whether an address to listen on is for this machine alone."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def explain(error: ValidationError) -> str:
    """The settings' errors as one line each: the variable, what is wrong, what to do."""
    lines = []
    for item in error.errors(include_input=False, include_url=False):
        name = str(item["loc"][0]).upper() if item["loc"] else ""
        if item["type"] == "missing":
            lines.append(
                f"{name} is not set. Set it in the environment or in a file .env in this folder, "
                f"for example {name}=localhost"
            )
        else:
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{name}: {message}" if name else message)
    return "\n".join(lines)
