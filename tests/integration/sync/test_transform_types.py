"""A transform that changes nothing changes no document, whatever the types of the columns."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from elasticsearch import Elasticsearch

from dev.docs import types as page
from tests.integration.sync.hostile import HOSTILE, SETUP
from tests.integration.sync.test_types import Rows

IDENTITY = "tests.integration.sync.transforms:identity"


@pytest.fixture
def rows(database: Any, es: Elasticsearch, prefix: str) -> Iterator[Rows]:
    with psycopg.connect(database.conninfo, autocommit=True) as pg:
        yield Rows(database, es, pg, f"{prefix}rows")


def both(rows: Rows, **entry: Any) -> list[dict[str, dict[str, Any]]]:
    """The documents as PostgreSQL writes them, and as they are after the function."""
    plain, index = rows.load(**entry), rows.index
    documents = [rows.documents()]
    rows.index = f"{index}-transformed"
    report = rows.load(transform=IDENTITY, **entry)
    documents.append(rows.documents())
    for document in documents[1].values():
        del document["_pg_es"]
    assert (report.rows, report.lost) == (plain.rows, plain.lost)
    assert report.refused == {}
    return documents


def test_hostile_values_of_every_type_come_out_as_they_went_in(rows: Rows) -> None:
    rows.pg.execute(SETUP)
    rows.create({f"c{number}": type_ for number, type_ in enumerate(HOSTILE)})
    for number in range(max(map(len, HOSTILE.values()))):
        rows.insert(
            id=number,
            **{
                f"c{column}": list(values)[number]
                for column, values in enumerate(HOSTILE.values())
                if number < len(values)
            },
        )
    plain, transformed = both(rows)
    types = dict(zip((f"c{number}" for number in range(len(HOSTILE))), HOSTILE, strict=True))
    assert plain.keys() == transformed.keys()
    for id, document in plain.items():
        for name, value in document.items():
            assert transformed[id][name] == value, f"{types.get(name, name)} {value!r:.100}"
            assert type(transformed[id][name]) is type(value), types.get(name, name)


def test_the_examples_of_every_type_come_out_as_they_went_in(rows: Rows) -> None:
    rows.pg.execute(page.SETUP)
    examples = [example for row in page.ROWS for example in row.examples]
    rows.create({f"c{number}": example.type for number, example in enumerate(examples)})
    rows.insert(id=1, **{f"c{number}": example.value for number, example in enumerate(examples)})
    rows.insert(id=2)
    plain, transformed = both(rows)
    assert transformed == plain
