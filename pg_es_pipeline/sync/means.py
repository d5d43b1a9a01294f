"""What the loads of one run work with, and share."""

from collections.abc import Callable
from dataclasses import dataclass

from elasticsearch import Elasticsearch

from pg_es_pipeline.sync.checkpoints import Checkpoints
from pg_es_pipeline.sync.load import Loader
from pg_es_pipeline.sync.postgres import Connection
from pg_es_pipeline.sync.pressure import Pressure
from pg_es_pipeline.sync.throttle import Flow, RateLimit


@dataclass(frozen=True, slots=True)
class Means:
    """Connections, and what keeps them in bounds."""

    connection: Connection
    connect: Callable[[], Connection]
    """Another connection, for reading on while the first one is asked something else."""
    client: Elasticsearch
    loader: Loader
    checkpoints: Checkpoints
    flow: Flow
    pressure: Pressure
    rate_limit: RateLimit
