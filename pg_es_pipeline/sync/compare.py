"""What differs between a table and its index.

Both sides are cut into the same buckets, and the number of rows and a sum over them are compared
bucket by bucket; only the buckets that differ are then read key by key. Memory stays flat: so many
buckets are looked at at once, and so many keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import islice
from typing import Any

from elasticsearch import Elasticsearch
from psycopg import sql

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.sync.buckets import LONG, NOTHING, Part, Sum, between, groups, stretches
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.documents import (
    BUCKET,
    BUCKETS,
    HASH,
    Document,
    bucket,
    has_bucket,
    identifier,
    relation,
)
from pg_es_pipeline.sync.documents import field as column_field
from pg_es_pipeline.sync.indices import Generation
from pg_es_pipeline.sync.postgres import Connection
from pg_es_pipeline.sync.rows import documents
from pg_es_pipeline.sync.scope import Scope
from pg_es_pipeline.sync.transforming import contents

ROWS_PER_BUCKET = 100
BUCKETS_AT_ONCE = 50_000
"""Elasticsearch answers with at most 65,536 buckets."""
KEYS_AT_ONCE, DOCUMENTS_AT_ONCE = 10_000, 1_000
_EXACT = 1 << 53
"""Elasticsearch sums up in doubles, which are exact up to here."""


class Level(StrEnum):
    """What is compared."""

    KEYS = "keys"
    CONTENT = "content"
    """The hash of the content that each document carries."""
    FULL = "full"
    """The documents themselves, as Elasticsearch returns them."""


@dataclass(slots=True)
class Differences:
    """Documents' ids, by what is wrong."""

    missing: list[str] = field(default_factory=list)
    """Rows without a document."""
    extra: list[str] = field(default_factory=list)
    """Documents without a row."""
    changed: list[str] = field(default_factory=list)
    """Documents that are not what their row would become."""

    @property
    def ids(self) -> list[str]:
        return self.missing + self.changed + self.extra

    @property
    def count(self) -> int:
        return len(self.missing) + len(self.extra) + len(self.changed)


def usual_level(source: Source) -> Level:
    """What is compared if nobody says: the content where documents carry a hash of it."""
    return Level.CONTENT if source.content_hash else Level.KEYS


class Comparison:
    """Compares once, within one scope; what was written before is taken into account."""

    def __init__(
        self,
        connection: Connection,
        lookups: Connection,
        client: Elasticsearch,
        generation: Generation,
        document: Document,
        scope: Scope,
        level: Level,
    ) -> None:
        """`lookups` is another connection: rows are looked up while others are still read."""
        if level is Level.CONTENT and not document.source.content_hash:
            raise SourceError(
                f"{document.source.table.table}: its documents carry no hash of their content. Set "
                "`content_hash: true` for the table, or compare the documents themselves."
            )
        client.indices.refresh(index=generation.name)
        self._connection = connection
        self._lookups = lookups
        self._client = client
        self._generation = generation
        self._document = document
        self._source = document.source
        self._scope = scope
        self._level = level
        self._at_once = DOCUMENTS_AT_ONCE if level is Level.FULL else KEYS_AT_ONCE
        self.rows = 0
        """Rows seen, when the comparison is over."""
        self.documents = 0

    def count_documents(self) -> int:
        """The documents of the scope."""
        answer = self._client.count(index=self._generation.name, query=self._scope.documents)
        return int(answer["count"])

    def differences(self) -> Iterator[Differences]:
        """The differences, some at a time."""
        rows, first, last = self._extent()
        if first is not None and last is not None:
            yield from self._between(first, last + 1, rows, count=True)
        yield from self._strays()

    def sample(self, count: int) -> Iterator[Differences]:
        """The differences among so many documents and as many rows, drawn at random."""
        drawn = self._search(
            {"function_score": {"query": self._scope.documents, "random_score": {}}},
            size=count,
            source=False,
        )["hits"]["hits"]
        ids = list(dict.fromkeys([hit["_id"] for hit in drawn] + self._random_rows(count)))
        self.rows = self.documents = len(ids)
        yield self._compare(ids)

    def _random_rows(self, count: int) -> list[str]:
        # All rows of some blocks, where that is possible and there are enough of them.
        percent = 100 * count * 20 / max(self._source.estimate, 1)
        few = self._source.row_versions and percent < 50
        blocks = sql.SQL("TABLESAMPLE SYSTEM ({})").format(sql.Literal(percent))
        statement = sql.SQL(
            "SELECT {id}::text FROM {relation} {few} WHERE {rows} {order} LIMIT {n}"
        )
        return [
            id
            for (id,) in self._connection.execute(
                statement.format(
                    id=identifier(self._source),
                    relation=relation(self._source),
                    few=blocks if few else sql.SQL(""),
                    rows=self._scope.rows,
                    order=sql.SQL("" if few else "ORDER BY random()"),
                    n=sql.Literal(count),
                )
            )
        ]

    def confirm(self, found: Differences) -> Differences:
        """The differences that are still there: a row may have changed between the two readings."""
        return self._compare(found.ids)

    def _compare(self, ids: list[str]) -> Differences:
        """Compares these documents with their rows as both are now."""
        found = Differences()
        for start in range(0, len(ids), DOCUMENTS_AT_ONCE):
            some = ids[start : start + DOCUMENTS_AT_ONCE]
            rows = documents(self._lookups, self._document, some)
            hits = self._client.mget(index=self._generation.name, ids=some)["docs"]
            for hit in hits:
                id, row = hit["_id"], rows.get(hit["_id"])
                if not hit["found"]:
                    if row is not None:
                        found.missing.append(id)
                elif row is None:
                    found.extra.append(id)
                elif row != hit["_source"]:
                    found.changed.append(id)
        return found

    def _between(self, first: int, end: int, rows: int, *, count: bool) -> Iterator[Differences]:
        """Compares a part of the axis that has about so many rows."""
        per_bucket = min(ROWS_PER_BUCKET, self._at_once)
        width = max(1, (end - first) * per_bucket // max(rows, 1))
        step = width * BUCKETS_AT_ONCE
        for start in range(first, end, step):
            part = Part(start, min(start + step, end), width)
            in_rows, in_documents = self._row_sums(part), self._document_sums(part)
            if count:
                self.rows += sum(one.rows for one in in_rows.values())
                self.documents += sum(one.rows for one in in_documents.values())
            differing, crowded = {}, []
            for number in sorted(in_rows.keys() | in_documents.keys()):
                left, right = in_rows.get(number, NOTHING), in_documents.get(number, NOTHING)
                if left == right and self._is_exact(part, left.rows):
                    continue
                size = max(left.rows, right.rows)
                if size > self._at_once and width > 1:
                    crowded.append((number, size))
                else:
                    differing[number] = size
            yield from self._drill(part, differing)
            for number, size in crowded:
                yield from self._between(*part.bounds(number), size, count=False)

    def _is_exact(self, part: Part, count: int) -> bool:
        if self._level is Level.FULL:
            return False
        highest = 1 << 32 if self._level is Level.CONTENT else max(abs(part.start), abs(part.end))
        return highest * count < _EXACT

    @cached_property
    def _axis(self) -> tuple[sql.Composable, str]:
        """What both sides are put in order by: an expression over a row, and a field."""
        if has_bucket(self._source):
            return bucket(self._source), BUCKET
        [key] = self._source.key
        return sql.SQL("{}::int8").format(column_field(key)), key.name

    def _extent(self) -> tuple[int, int | None, int | None]:
        """How many rows there are at most, about, and the axis's first and last value."""
        if has_bucket(self._source):
            return max(self.count_documents(), self._source.estimate), 0, BUCKETS - 1
        axis, name = self._axis
        found = self._search(
            self._scope.documents,
            size=0,
            track_total_hits=True,
            aggs={"first": {"min": {"field": name}}, "last": {"max": {"field": name}}},
        )
        documents = found["hits"]["total"]["value"]
        row = self._connection.execute(
            sql.SQL("SELECT min({0}), max({0}) FROM {1} WHERE {2}").format(
                axis, relation(self._source), self._scope.rows
            )
        ).fetchone()
        aggregations = found["aggregations"]
        values = [value for value in row or () if value is not None]
        for end in ("first", "last"):
            if aggregations[end]["value"] is not None:
                # A double: its neighbours are included.
                value = int(aggregations[end]["value"])
                slack = abs(value) // _EXACT * 2
                values += [max(value - slack, -LONG), min(value + slack, LONG - 1)]
        if not values:
            return 0, None, None
        return max(documents, self._source.estimate), min(values), max(values)

    def _row_sums(self, part: Part) -> dict[int, Sum]:
        axis, _ = self._axis
        # OFFSET 0: the planner takes every row for a bucket of its own, and would sort them whole.
        hashed = self._level is Level.CONTENT
        statement = sql.SQL(
            "SELECT number, count(*), sum(value) FROM (SELECT {number} AS number, {value} AS value "
            "FROM {relation} WHERE {where} {fence}) s GROUP BY 1"
        ).format(
            number=part.number(axis),
            value=self._document.content_hash() if hashed else axis,
            relation=relation(self._source),
            where=self._where(part),
            fence=sql.SQL("OFFSET 0" if hashed else ""),
        )
        return {
            number: Sum(count, float(total))
            for number, count, total in self._connection.execute(statement)
        }

    def _document_sums(self, part: Part) -> dict[int, Sum]:
        _, name = self._axis
        answer = self._search(
            {"bool": {"filter": [self._scope.documents, {"range": {name: part.range}}]}},
            size=0,
            track_total_hits=False,
            aggs={
                "buckets": {
                    "histogram": {
                        "field": name,
                        "interval": part.width,
                        "offset": part.start % part.width,
                        "min_doc_count": 1,
                    },
                    "aggs": {
                        "total": {"sum": {"field": HASH if self._level is Level.CONTENT else name}}
                    },
                }
            },
        )
        return {
            round((found["key"] - part.start) / part.width): Sum(
                found["doc_count"], found["total"]["value"]
            )
            for found in answer["aggregations"]["buckets"]["buckets"]
        }

    def _drill(self, part: Part, differing: dict[int, int]) -> Iterator[Differences]:
        """Compares these buckets, whose sizes are given, key by key."""
        if not differing:
            return
        rows = self._rows(part, list(differing))
        read = next(rows, None)
        for numbers in groups(differing, self._at_once):
            documents = self._documents(part, numbers)
            found = Differences()
            while read is not None and read[0] <= numbers[-1]:
                _, id, value = read
                if id not in documents:
                    found.missing.append(id)
                elif documents.pop(id) != value:
                    found.changed.append(id)
                read = next(rows, None)
            found.missing = self._wanted(found.missing)
            found.extra += documents
            if found.count:
                yield found

    def _wanted(self, missing: list[str]) -> list[str]:
        """Those that a document is missing of: a row that the transform leaves out has none."""
        if self._document.transform is None:
            return missing
        wanted: list[str] = []
        for start in range(0, len(missing), DOCUMENTS_AT_ONCE):
            some = missing[start : start + DOCUMENTS_AT_ONCE]
            there = documents(self._lookups, self._document, some)
            wanted += [id for id in some if id in there]
        return wanted

    def _rows(self, part: Part, numbers: list[int]) -> Iterator[tuple[int, str, Any]]:
        """The rows of these buckets: number, `_id` and value, by number."""
        axis, _ = self._axis
        match self._level:
            case Level.KEYS:
                value: sql.Composable = sql.NULL
            case Level.CONTENT:
                value = self._document.content_hash()
            case Level.FULL:
                value = self._document.json()
        statement = sql.SQL(
            "SELECT {number}, {id}::text, {value} FROM {relation} "
            "WHERE {where} AND {number} = ANY({numbers}::int8[]) ORDER BY 1"
        ).format(
            number=part.number(axis),
            id=identifier(self._source),
            value=value,
            relation=relation(self._source),
            where=self._where(part),
            numbers=sql.Literal(numbers),
        )
        with self._connection.cursor() as cursor:
            found = cursor.stream(statement, size=1000)
            if self._level is not Level.FULL:
                yield from found
                return
            while some := list(islice(found, 1000)):
                wanted = contents(self._document, {id: text for _, id, text in some})
                for number, id, _ in some:
                    yield number, id, wanted.get(id)

    def _documents(self, part: Part, numbers: list[int]) -> dict[str, Any]:
        """The documents of these buckets: value by `_id`."""
        return self._documents_in(
            [(part.bounds(low)[0], part.bounds(high)[1]) for low, high in stretches(numbers)]
        )

    def _documents_in(self, stretches: list[tuple[int, int]]) -> dict[str, Any]:
        name = self._axis[1]
        inside = [{"range": {name: between(start, end)}} for start, end in stretches]
        answer = self._search(
            {"bool": {"filter": [self._scope.documents, {"bool": {"should": inside}}]}},
            size=self._at_once,
            track_total_hits=self._at_once + 1,
            source=self._level is Level.FULL,
            docvalue_fields=[HASH] if self._level is Level.CONTENT else None,
        )
        first, last = stretches[0][0], stretches[-1][1]
        if answer["hits"]["total"]["value"] <= self._at_once or last - first == 1:
            return {hit["_id"]: self._value(hit) for hit in answer["hits"]["hits"]}
        if len(stretches) == 1:
            middle = (first + last) // 2
            stretches = [(first, middle), (middle, last)]
        half = len(stretches) // 2
        return self._documents_in(stretches[:half]) | self._documents_in(stretches[half:])

    def _value(self, hit: dict[str, Any]) -> Any:
        match self._level:
            case Level.KEYS:
                return None
            case Level.CONTENT:
                return hit.get("fields", {}).get(HASH, [None])[0]
            case Level.FULL:
                return hit["_source"]

    def _strays(self) -> Iterator[Differences]:
        """Documents that somebody else has written: they are nowhere on the axis."""
        inside = {"must_not": {"exists": {"field": self._axis[1]}}}
        answer = self._search(
            {"bool": {"filter": [self._scope.documents], **inside}},
            size=self._at_once,
            source=False,
        )
        ids = [hit["_id"] for hit in answer["hits"]["hits"]]
        self.documents += answer["hits"]["total"]["value"]
        # Those whose row is there are known by then: it is missing on the axis.
        rows = documents(self._lookups, self._document, ids) if ids else {}
        if extra := [id for id in ids if id not in rows]:
            yield Differences(extra=extra)

    def _where(self, part: Part) -> sql.Composable:
        axis, _ = self._axis
        if has_bucket(self._source) and part.start == 0 and part.end == BUCKETS:
            return sql.SQL("({})").format(self._scope.rows)
        return sql.SQL("({}) AND {} >= {} AND {} < {}").format(
            self._scope.rows, axis, sql.Literal(part.start), axis, sql.Literal(part.end)
        )

    def _search(self, query: dict[str, Any], **arguments: Any) -> Any:
        return self._client.search(index=self._generation.name, query=query, **arguments)
