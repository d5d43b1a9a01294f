"""Where the servers are and how hard to work them: everything read from the environment.

A file `.env` in the working directory is read as well; the environment wins over it. An empty value
counts as unset.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pg_es_pipeline.errors import SettingsError

Port = Annotated[int, Field(ge=1, le=65535)]


def _environment(prefix: str = "") -> SettingsConfigDict:
    return SettingsConfigDict(
        env_prefix=prefix,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )


class PostgresSettings(BaseSettings):
    """The source database."""

    model_config = _environment("PG_")

    host: str
    port: Port = 5432
    database: str
    user: str
    password: SecretStr | None = None
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"


class ElasticsearchSettings(BaseSettings):
    """The target cluster. Credentials are a user with a password, or an API key, or none."""

    model_config = _environment("ES_")

    host: str
    port: Port = 9200
    user: str | None = None
    password: SecretStr | None = None
    api_key: SecretStr | None = None
    use_ssl: bool = False
    ca_certs: Path | None = None
    compress: bool = False
    """Whether bulk requests are compressed: for a way to Elasticsearch that is the limit."""

    @field_validator("host")
    @classmethod
    def _host_alone(cls, value: str) -> str:
        if not set(value).isdisjoint("/ @?#"):
            raise ValueError(
                "a host's name or address alone is expected; the scheme is said by ES_USE_SSL, "
                "the port by ES_PORT"
            )
        return value

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("ES_USER and ES_PASSWORD go together: set both, or neither")
        if self.user and self.api_key:
            raise ValueError("set either ES_API_KEY or ES_USER and ES_PASSWORD, not both")
        if self.ca_certs and not self.ca_certs.is_file():
            raise ValueError(f"ES_CA_CERTS names {self.ca_certs}, which is no file")
        return self

    @property
    def url(self) -> str:
        return f"{'https' if self.use_ssl else 'http'}://{self.host}:{self.port}"


class BatchingSettings(BaseSettings):
    """How hard the pipeline works Elasticsearch."""

    model_config = _environment()

    min_batch_size: int = Field(default=100, ge=1)
    """Documents of the smallest bulk request that the throttle goes down to."""
    max_batch_size: int = Field(default=10_000, ge=1)
    """Documents of the largest bulk request."""
    rate_limit: int = Field(default=0, ge=0)
    """Documents a second for the whole deployment; 0 is no limit."""
    pool_size: int = Field(default=5, ge=1, le=64)
    """Connections of a run to Elasticsearch: the bulk requests that it has under way at once."""

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Self:
        if self.min_batch_size > self.max_batch_size:
            raise ValueError(
                f"MIN_BATCH_SIZE ({self.min_batch_size}) is above "
                f"MAX_BATCH_SIZE ({self.max_batch_size})"
            )
        return self


class ProjectSettings(BaseSettings):
    """What the definitions themselves need."""

    model_config = _environment()

    sync_interval: int = Field(default=60, ge=1, le=86_400)
    """Seconds between two looks for changes."""
    pg_es_tables: Path = Path("tables.yaml")
    keep_runs_days: int = Field(default=14, ge=1)
    """Days after which a run is removed from Dagster's storage."""
    jobs_per_table: bool | None = None
    """Whether each table has Dagster jobs of its own; None: up to 50 tables."""
    search_url: str | None = None
    """Where people reach the search service; an index's asset links to its page there."""

    @field_validator("search_url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not re.fullmatch(r"https?://[^\s?#@]+", value):
            raise ValueError(
                "an address such as https://search.example.com is expected, without a user, a "
                "password or a query"
            )
        return value.rstrip("/")


class AlertSettings(BaseSettings):
    """Where failures are told."""

    model_config = _environment()

    alert_webhook_url: SecretStr | None = None
    """Takes messages as Slack's incoming webhooks do; None: nobody is told. A secret: whoever knows
    it can write there."""
    dagster_url: str | None = None
    """Of Dagster's pages, as people reach them: messages have links to the runs."""

    @field_validator("alert_webhook_url")
    @classmethod
    def _is_http(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("it has to begin with http:// or https://")
        return value

    @field_validator("dagster_url")
    @classmethod
    def _without_credentials(cls, value: str | None) -> str | None:
        if value and not re.fullmatch(r"https?://[^@\s?#]+", value):
            raise ValueError(
                "an address such as https://dagster.example.com is expected, without a user, a "
                "password or a query: it is shown to whoever reads the messages"
            )
        return value and value.rstrip("/")


Settings = TypeVar("Settings", bound=BaseSettings)


def read(kind: type[Settings], **given: Any) -> Settings:
    """Reads the settings from the environment; a value of `given` that is not None wins.

    Raises SettingsError with one line for each variable that is missing or wrong.
    """
    try:
        return kind(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise SettingsError(explain(kind, error)) from None


def secrets() -> set[str]:
    """The values of the environment that no message may tell."""
    found = {os.environ.get("DAGSTER_PG_PASSWORD", "")}
    for kind in (PostgresSettings, ElasticsearchSettings, AlertSettings):
        try:
            known = vars(read(kind)).values()
        except SettingsError:
            continue
        found |= {one.get_secret_value() for one in known if isinstance(one, SecretStr)}
    return found - {""}


def explain(kind: type[BaseSettings], error: ValidationError) -> str:
    """Names each variable at fault, the reason, and what to do."""
    lines = []
    prefix = kind.model_config.get("env_prefix", "")
    for problem in error.errors(include_url=False, include_input=False):
        if not problem["loc"]:
            lines.append(problem["msg"].removeprefix("Value error, "))
            continue
        variable = f"{prefix}{problem['loc'][0]}".upper()
        if problem["type"] == "missing":
            lines.append(
                f"{variable} is not set: set it in the environment or in .env "
                "(for a local try-out: eval \"$(pg-es stack env)\" after 'pg-es stack up')"
            )
        else:
            lines.append(f"{variable} is not valid: {problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)
