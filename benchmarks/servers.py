"""The servers that are measured, as every process of the benchmark reaches them."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from elasticsearch import Elasticsearch
from pydantic import SecretStr

from dev.stack import Stack
from pg_es_pipeline.settings import BatchingSettings, ElasticsearchSettings, PostgresSettings
from pg_es_pipeline.sync import postgres
from pg_es_pipeline.sync.engine import Engine


@dataclass(frozen=True)
class Servers:
    """A stack of the benchmark's own."""

    folder: Path
    """Where it is, and where the benchmark may put what it needs."""
    variables: Mapping[str, str]
    """PG_* and ES_*."""

    @property
    def postgres_log(self) -> Path:
        return self.folder / "logs" / "postgresql.log"

    def connect(self) -> postgres.Connection:
        """A connection such as the engine's."""
        return postgres.connect(self._postgres)

    def client(self) -> Elasticsearch:
        return Elasticsearch(self._elasticsearch.url, request_timeout=120)

    def behind(self, port: int) -> "Servers":
        """The same, with Elasticsearch reached by another port."""
        return replace(self, variables={**self.variables, "ES_PORT": str(port)})

    def compressing(self) -> "Servers":
        """The same, sent compressed requests by the engine."""
        return replace(self, variables={**self.variables, "ES_COMPRESS": "true"})

    @property
    def elasticsearch_pid(self) -> int:
        [pid] = [
            one.pid
            for one in Stack(self.folder, {}, ports="free").status()
            if one.name.startswith("Elasticsearch") and one.pid
        ]
        return pid

    def engine(self) -> Engine:
        return Engine(self._postgres, self._elasticsearch, BatchingSettings())

    @property
    def _postgres(self) -> PostgresSettings:
        return PostgresSettings(
            host=self.variables["PG_HOST"],
            port=int(self.variables["PG_PORT"]),
            database=self.variables["PG_DATABASE"],
            user=self.variables["PG_USER"],
            password=SecretStr(self.variables["PG_PASSWORD"]),
        )

    @property
    def _elasticsearch(self) -> ElasticsearchSettings:
        return ElasticsearchSettings(
            host=self.variables["ES_HOST"],
            port=int(self.variables["ES_PORT"]),
            compress="ES_COMPRESS" in self.variables,
        )


@contextmanager
def started() -> Iterator[Servers]:
    """Servers in a temporary folder, stopped and deleted whatever happens, SIGTERM included."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with TemporaryDirectory(prefix="pg-es-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL may run as another user.
        stack = Stack(folder, {}, ports="free")
        try:
            yield Servers(folder.resolve(), stack.up())
        finally:
            stack.down()
