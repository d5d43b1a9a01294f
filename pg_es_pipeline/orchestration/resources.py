"""Resources: what is not given in a run's configuration comes from the environment."""

import dagster as dg
from pydantic import Field

from pg_es_pipeline.settings import (
    BatchingSettings,
    ElasticsearchSettings,
    PostgresSettings,
    read,
)
from pg_es_pipeline.sync.engine import Engine


class PostgresResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The source database. The password is read from PG_PASSWORD alone."""

    host: str | None = Field(default=None, description="PG_HOST")
    port: int | None = Field(default=None, description="PG_PORT, 5432")
    database: str | None = Field(default=None, description="PG_DATABASE")
    user: str | None = Field(default=None, description="PG_USER")
    sslmode: str | None = Field(default=None, description="PG_SSLMODE, prefer")

    def settings(self) -> PostgresSettings:
        """Raises SettingsError, naming the variables that are missing."""
        return read(PostgresSettings, **_given(self))


class ElasticsearchResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The target cluster. Credentials are read from ES_USER, ES_PASSWORD and ES_API_KEY alone."""

    host: str | None = Field(default=None, description="ES_HOST")
    port: int | None = Field(default=None, description="ES_PORT, 9200")
    use_ssl: bool | None = Field(default=None, description="ES_USE_SSL, false")
    ca_certs: str | None = Field(default=None, description="ES_CA_CERTS")
    compress: bool | None = Field(
        default=None, description="ES_COMPRESS: compress bulk requests, false"
    )

    def settings(self) -> ElasticsearchSettings:
        """Raises SettingsError, naming the variables that are missing."""
        return read(ElasticsearchSettings, **_given(self))


class BatchingResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """How hard Elasticsearch is worked."""

    min_batch_size: int | None = Field(
        default=None, description="MIN_BATCH_SIZE: documents of the smallest bulk request, 100"
    )
    max_batch_size: int | None = Field(
        default=None, description="MAX_BATCH_SIZE: documents of the largest bulk request, 10000"
    )
    rate_limit: int | None = Field(
        default=None, description="RATE_LIMIT: documents a second of the whole deployment, 0: none"
    )
    pool_size: int | None = Field(
        default=None, description="POOL_SIZE: a run's connections to Elasticsearch, 5"
    )

    def settings(self) -> BatchingSettings:
        """Raises SettingsError, naming the variables that are wrong."""
        return read(BatchingSettings, **_given(self))


def _given(resource: dg.ConfigurableResource) -> dict[str, object]:  # type: ignore[type-arg]
    return {name: getattr(resource, name) for name in type(resource).model_fields}


def engine(
    postgres: PostgresResource, elasticsearch: ElasticsearchResource, batching: BatchingResource
) -> Engine:
    """The engine over the three. Raises SettingsError."""
    return Engine(postgres.settings(), elasticsearch.settings(), batching.settings())


RESOURCES: dict[str, object] = {
    "postgres": PostgresResource(),
    "elasticsearch": ElasticsearchResource(),
    "batching": BatchingResource(),
}
