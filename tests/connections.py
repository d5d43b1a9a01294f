"""Connections to the servers that a test was given."""

from collections.abc import Mapping
from typing import Any

import psycopg

from pg_es_pipeline.settings import PostgresSettings


def connect(variables: Mapping[str, str], *, autocommit: bool = True) -> psycopg.Connection[Any]:
    """To the PostgreSQL that these PG_* variables name."""
    return psycopg.connect(
        host=variables["PG_HOST"],
        port=variables["PG_PORT"],
        dbname=variables["PG_DATABASE"],
        user=variables["PG_USER"],
        password=variables["PG_PASSWORD"],
        autocommit=autocommit,
    )


def postgres_settings(database: Any) -> PostgresSettings:
    """The settings of a test's database."""
    return PostgresSettings(
        host=database.host,
        port=database.port,
        database=database.dbname,
        user=database.user,
        password=database.password,
    )
