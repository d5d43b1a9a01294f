"""Dead letters: the rows that were refused for good, in an index of their own.

A letter says which row, why and since when; never what is in the row. It is written before the
checkpoint passes the row, and under the version of the reading that was refused: so a run that lost
touch cannot bring back a letter that a newer load has removed.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import Any

from elasticsearch import BadRequestError, Elasticsearch

from pg_es_pipeline.errors import RowsRefused, ServerAway
from pg_es_pipeline.sync import elastic, ndjson
from pg_es_pipeline.sync.extract import Refusal
from pg_es_pipeline.sync.indices import GC_DELETES, Generation
from pg_es_pipeline.sync.load import Outcome, action
from pg_es_pipeline.tables import Table

INDEX = "pg-es-dead-letters"

REASON_LENGTH = 1000
"""Characters that are kept of a reason."""

_MAPPINGS = {
    "dynamic": False,
    "properties": {
        "table": {"type": "keyword"},
        "index": {"type": "keyword"},
        "generation": {"type": "keyword"},
        "uuid": {"type": "keyword"},
        "partition": {"type": "keyword"},
        "key": {"type": "keyword"},
        "reason": {"type": "text"},
        "failed_at": {"type": "date"},
        "attempts": {"type": "integer"},
        "version": {"type": "long"},
    },
}


@dataclass(frozen=True, slots=True)
class Letter:
    """A refused row."""

    key: str
    """The `_id` of its document."""
    partition: str | None
    """None where it was refused outside of a partition's load."""
    reason: str
    failed_at: str
    """The last time, as text in UTC."""
    attempts: int
    version: int


class DeadLetters:
    """The dead letters of one generation, as one load sees them."""

    def __init__(
        self,
        client: Elasticsearch,
        table: Table,
        generation: Generation,
        *,
        unlimited: bool = False,
    ) -> None:
        """`unlimited`: there may be more than the table's `max_dead_letters`."""
        self._client = client
        self._table = table
        self._generation = generation
        self._unlimited = unlimited

    @cached_property
    def letters(self) -> dict[str, Letter]:
        """By `_id`, without those whose row another load has brought into the index meanwhile."""
        with elastic.speaking(f"reading the dead letters of {self._generation.name}"):
            found = {letter.key: letter for letter in self._read()}
            loaded = dict(self._loaded(found))
            self._write([self._removal(key, version) for key, version in loaded.items()])
        return {key: letter for key, letter in found.items() if key not in loaded}

    def settle(self, outcome: Outcome, partition: str | None = None) -> None:
        """Writes the letters of a batch's refused rows, and removes those of its other rows.

        A row of which the index has something newer by now was superseded, not refused.
        Raises RowsRefused, with nothing written, when there would be too many.
        """
        if not outcome.refused and not self.letters:
            return
        self._drop_overtaken(outcome)
        refused = {one.id: one for one in outcome.refused}
        settled = {
            head["_id"]: head["version"]
            for head in map(action, ndjson.rows(outcome.batch.body) if self.letters else ())
            if head["_id"] in self.letters and head["_id"] not in refused
        }
        total = len((self.letters.keys() | refused.keys()) - settled.keys())
        if refused and not self._unlimited and total > self._table.max_dead_letters:
            raise RowsRefused(self._too_many(outcome.refused, total, partition))
        written = {key: self._letter(one, partition) for key, one in refused.items()}
        with elastic.speaking(f"writing dead letters of {self._generation.name}"):
            if written:
                self._prepare()
            self._write(
                [operation for one in written.values() for operation in self._addition(one)]
                + [self._removal(key, version) for key, version in settled.items()]
            )
        self.letters.update(written)
        for key in settled:
            del self.letters[key]

    def _drop_overtaken(self, outcome: Outcome) -> None:
        """Batches end in any order: a later reading may be written before an earlier one is
        refused."""
        with elastic.speaking(f"looking for refused rows of {self._generation.name}"):
            newer = dict(self._loaded({one.id: one for one in outcome.refused}))
        outcome.superseded += sum(one.id in newer for one in outcome.refused)
        outcome.refused = [one for one in outcome.refused if one.id not in newer]

    def remove_orphans(self) -> None:
        """Removes the letters of generations of this index that are no more."""
        with elastic.speaking(f"removing old dead letters of {self._generation.index}"):
            settings = self._client.indices.get_settings(
                index=f"{self._generation.index}-*", name="index.uuid", flat_settings=True
            )
            uuids = [one["settings"]["index.uuid"] for one in settings.values()]
            mine = {"term": {"index": self._generation.index}}
            gone = {"bool": {"filter": mine, "must_not": {"terms": {"uuid": uuids}}}}
            self._write([{"delete": {"_id": hit["_id"]}} for hit in self._search(gone)])

    def _letter(self, refusal: Refusal, partition: str | None) -> Letter:
        known = self.letters.get(refusal.id)
        return Letter(
            key=refusal.id,
            partition=partition or (known.partition if known else None),
            reason=refusal.reason[:REASON_LENGTH],
            failed_at=datetime.now(UTC).isoformat(),
            attempts=known.attempts + 1 if known else 1,
            version=refusal.version,
        )

    def _read(self) -> Iterator[Letter]:
        for hit in self._search({"term": {"uuid": self._generation.uuid}}):
            stored = hit["_source"]
            yield Letter(**{name: stored[name] for name in Letter.__slots__})

    def _search(self, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        return elastic.all_hits(self._client, INDEX, query, ["key", "uuid"])

    def _loaded(self, refused: Mapping[str, Letter | Refusal]) -> Iterator[tuple[str, int]]:
        """Those whose document is newer than the refused one, with its version.

        Loads run at once: one may be refused a row that another one, which read later and knew of
        no letter, has written.
        """
        keys = list(refused)
        for start in range(0, len(keys), elastic.PAGE):
            found = self._client.mget(
                index=self._generation.name, ids=keys[start : start + elastic.PAGE], source=False
            )
            for document in found["docs"]:
                key, version = document["_id"], document.get("_version", -1)
                if version > refused[key].version:
                    yield key, version

    def _prepare(self) -> None:
        if self._client.indices.exists(index=INDEX):
            return
        try:
            self._client.indices.create(
                index=INDEX,
                mappings=_MAPPINGS,
                settings={
                    "number_of_shards": 1,
                    "auto_expand_replicas": "0-1",
                    "gc_deletes": GC_DELETES,
                },
            )
        except BadRequestError as error:
            # Another run may have been faster.
            if "resource_already_exists_exception" not in str(error):
                raise

    def _addition(self, letter: Letter) -> list[dict[str, Any]]:
        about = {
            "table": self._table.table,
            "index": self._generation.index,
            "generation": self._generation.name,
            "uuid": self._generation.uuid,
        }
        fields = {name: getattr(letter, name) for name in Letter.__slots__}
        return [{"index": self._place(letter.key, letter.version)}, {**about, **fields}]

    def _removal(self, key: str, version: int) -> dict[str, Any]:
        return {"delete": self._place(key, version)}

    def _place(self, key: str, version: int) -> dict[str, Any]:
        digest = hashlib.sha256(f"{self._generation.uuid}:{key}".encode()).hexdigest()
        return {"_id": digest, "version": version, "version_type": "external_gte"}

    def _write(self, operations: Sequence[dict[str, Any]]) -> None:
        if not operations:
            return
        # Refreshed at once: whoever loads next has to find them.
        answer = self._client.bulk(index=INDEX, operations=operations, refresh=True)
        for item in answer["items"] if answer["errors"] else ():
            [result] = item.values()
            # 409: a newer load has said something else of the row.
            if "error" in result and result["status"] != 409:
                raise ServerAway(
                    f"{INDEX}: Elasticsearch did not take a dead letter of "
                    f"{self._generation.index} ({result['error']['reason']}). The checkpoint stays "
                    "before the row, and the next run tries it again."
                )

    def _too_many(self, refused: Sequence[Refusal], total: int, partition: str | None) -> str:
        where = f", partition {partition}" if partition else ""
        allowed = (
            f" With them there would be {total:,} dead letters, and `max_dead_letters` allows "
            f"{self._table.max_dead_letters:,}."
            if self._table.max_dead_letters
            else ""
        )
        return (
            f"{self._table.table}{where}: {summary(refused)}.{allowed} Correct the rows, leave the "
            "column out with `exclude`, or give it another mapping under `fields`. The checkpoint "
            "stays before them."
        )


def summary(refused: Collection[Refusal]) -> str:
    """How many there are, and the first few with their reasons."""
    count = f"{len(refused):,} row{'s were' if len(refused) > 1 else ' was'} refused for good"
    shown = [f"{one.id}: {one.reason[:REASON_LENGTH]}" for one in islice(refused, 5)]
    more = len(refused) - len(shown)
    return f"{count}: {'; '.join(shown)}" + (f" and {more:,} more" if more else "")
