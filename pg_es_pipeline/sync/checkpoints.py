"""The stored progress of each partition of each generation, in Elasticsearch.

A checkpoint belongs to the physical index that holds its documents, by that index's UUID: an index
that was deleted and made anew has no checkpoints. It is written after the documents that it speaks
of were acknowledged, and only over the one that was read: a run that lost touch cannot move it
back.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from elasticsearch import BadRequestError, ConflictError, Elasticsearch, NotFoundError

from pg_es_pipeline.errors import CheckpointConflict, IndexRefused
from pg_es_pipeline.sync.elastic import all_hits, speaking
from pg_es_pipeline.sync.indices import Generation

INDEX = "pg-es-checkpoints"

_MAPPINGS = {
    "dynamic": False,
    "properties": {
        "kind": {"type": "keyword"},
        "index": {"type": "keyword"},
        "generation": {"type": "keyword"},
        "partition": {"type": "keyword"},
        "version": {"type": "long"},
        "updated_at": {"type": "date"},
        "in_step_at": {"type": "date"},
    },
}


@dataclass(frozen=True, slots=True)
class Mark:
    """The highest number of a whole-number cursor at some moment.

    What begins after the moment draws higher ones; so once all that was open then has ended, all
    numbers up to this one are settled.
    """

    moment: str
    number: int


@dataclass(slots=True)
class FullPass:
    """A reading of the whole partition that has not come to its end."""

    limit: str
    """Of the cursor, when it began: what is at or beyond it is found by the cursor afterwards."""
    mark: Mark | None = None
    """Of a whole-number cursor: what the limit may have become when the pass ends."""
    after: list[str] | None = None
    """The order columns of the last row that is in the index."""


@dataclass(slots=True)
class Window:
    """What was loaded at or beyond the watermark: rows that the next run has to look at again."""

    rows: int
    digest: str


@dataclass(slots=True)
class Checkpoint:
    """How far one partition of one generation has come."""

    partition: str
    fingerprint: str
    """Of the document that the rows were written as."""
    full_pass: FullPass | None = None
    watermark: list[str] | None = None
    """One value: all rows with a lower cursor are in the index. More: all rows up to and with this
    cursor and key are. Without a cursor: the moment of the last comparison."""
    horizon: str | None = None
    marks: list[Mark] = field(default_factory=list)
    """Of a whole-number cursor, by moment: the last one that is settled, and those to come."""
    origin: str | None = None
    """The database that the rows were read from."""
    unsure: bool = False
    """Whether the database was found set back: documents may have lost their rows."""
    activity: str | None = None
    """Without a cursor: what PostgreSQL had counted before the last comparison."""
    version: int = 0
    window: Window | None = None
    updated_at: str | None = field(default=None, compare=False)
    """When it was written, by the clock of the machine that ran the load."""
    seq_no: int | None = field(default=None, compare=False)
    primary_term: int | None = field(default=None, compare=False)


class Checkpoints:
    """Reads and writes the checkpoints; knows what it read, and writes only over that."""

    def __init__(self, client: Elasticsearch) -> None:
        self._client = client
        self._ready = False

    def prepare(self) -> None:
        """Makes the index where it is missing."""
        if self._ready:
            return
        with speaking(f"preparing {INDEX}"):
            if not self._client.indices.exists(index=INDEX):
                try:
                    self._client.indices.create(
                        index=INDEX,
                        mappings=_MAPPINGS,
                        settings={"number_of_shards": 1, "auto_expand_replicas": "0-1"},
                    )
                except BadRequestError as error:
                    if "resource_already_exists_exception" not in str(error):
                        raise
        self._ready = True

    def read(self, generation: Generation, partitions: Iterable[str]) -> dict[str, Checkpoint]:
        """The checkpoints of those partitions that have one."""
        return self.read_many({generation: list(partitions)}).get(generation, {})

    def read_many(
        self, partitions: Mapping[Generation, Sequence[str]]
    ) -> dict[Generation, dict[str, Checkpoint]]:
        """The same of several generations at once."""
        places = [(of, _id(of, one)) for of, several in partitions.items() for one in several]
        found: dict[Generation, dict[str, Checkpoint]] = {}
        with speaking("reading the checkpoints"):
            for start in range(0, len(places), 1000):
                some = places[start : start + 1000]
                try:
                    answer = self._client.mget(index=INDEX, ids=[id_ for _, id_ in some])
                except NotFoundError:
                    return {}
                for (generation, _), hit in zip(some, answer["docs"], strict=True):
                    if hit.get("found"):
                        checkpoint = _from_json(hit)
                        found.setdefault(generation, {})[checkpoint.partition] = checkpoint
        return found

    def partitions(self, generation: Generation) -> list[str]:
        """The partitions of the generation that have a checkpoint."""
        return [hit["_source"]["partition"] for hit in self._of(generation, kind="checkpoint")]

    def _of(self, generation: Generation, **terms: str) -> list[dict[str, Any]]:
        """All that is stored of a generation, with these values of fields."""
        terms["generation"] = generation.name
        query = {"bool": {"filter": [{"term": {name: terms[name]}} for name in terms]}}
        with speaking(f"reading the checkpoints of {generation.name}"):
            # An index of the same name may have been there before, or have been made since.
            return [
                hit
                for hit in all_hits(self._client, INDEX, query, ["partition", "updated_at"])
                if hit["_id"].startswith(f"{generation.uuid}:")
            ]

    def highest_version(self, generation: Generation) -> int:
        """The highest version that a checkpoint of the generation holds: rows move between
        partitions, and a clock set back must not make them older."""
        with speaking(f"reading the checkpoints of {generation.name}"):
            answer = self._client.search(
                index=INDEX,
                size=0,
                query={"term": {"generation": generation.name}},
                aggs={"highest": {"max": {"field": "version"}}},
            )
        return int(answer["aggregations"]["highest"]["value"] or 0)

    def write(self, generation: Generation, checkpoint: Checkpoint) -> None:
        """Stores the checkpoint. Raises CheckpointConflict when somebody else wrote it since."""
        self.prepare()
        if checkpoint.seq_no is None:
            place: dict[str, Any] = {"op_type": "create"}
        else:
            place = {
                "if_seq_no": checkpoint.seq_no,
                "if_primary_term": checkpoint.primary_term,
            }
        with speaking(f"writing the checkpoint of {generation.name} {checkpoint.partition}"):
            try:
                answer = self._client.index(
                    index=INDEX,
                    id=_id(generation, checkpoint.partition),
                    document=_to_json(generation, checkpoint),
                    **place,
                )
            except ConflictError:
                raise CheckpointConflict(
                    f"{generation.index}, partition {checkpoint.partition}: another run has moved "
                    "the checkpoint. Nothing is lost: what this run has written stays, and the "
                    "next run goes on from the other's checkpoint."
                ) from None
        checkpoint.seq_no, checkpoint.primary_term = answer["_seq_no"], answer["_primary_term"]

    def record_version(self, generation: Generation, version: int) -> None:
        """Notes the highest version that a reconcile has written with."""
        with speaking(f"recording the reconcile of {generation.name}"), suppress(ConflictError):
            self._client.index(
                index=INDEX,
                id=f"{generation.uuid}:reconcile",
                document={
                    "kind": "reconcile",
                    "index": generation.index,
                    "generation": generation.name,
                    "version": version,
                    "updated_at": datetime.now(UTC).isoformat(),
                },
                version=version,
                version_type="external_gte",
                refresh=True,
            )

    def forget(self, generation: Generation) -> None:
        """Removes the checkpoints of a generation that is no more."""
        with speaking(f"removing the checkpoints of {generation.name}"):
            self._client.indices.refresh(index=INDEX, ignore_unavailable=True)
            operations = [{"delete": {"_id": hit["_id"]}} for hit in self._of(generation)]
            if operations:
                self._client.bulk(index=INDEX, operations=operations, refresh=True)

    def record_in_step(self, moments: dict[str, str]) -> None:
        """Notes for each index the moment before which every committed change is in it."""
        if not moments:
            return
        self.prepare()
        operations: list[dict[str, Any]] = []
        for index, moment in moments.items():
            operations.append({"index": {"_id": f"freshness:{index}"}})
            in_step_at = datetime.fromisoformat(moment).isoformat()
            operations.append({"kind": "freshness", "index": index, "in_step_at": in_step_at})
        with speaking("recording how fresh the indices are"):
            answer = self._client.bulk(index=INDEX, operations=operations)
        if answer["errors"]:
            raise IndexRefused(f"{INDEX}: refused how fresh the indices are: {answer['items']}")

    def in_step_at(self, indices: Iterable[str]) -> dict[str, str]:
        """What `record_in_step` has noted last, by index."""
        ids = [f"freshness:{index}" for index in indices]
        with speaking("reading how fresh the indices are"):
            try:
                answer = self._client.mget(index=INDEX, ids=ids)
            except NotFoundError:
                return {}
        found = [hit["_source"] for hit in answer["docs"] if hit.get("found")]
        return {one["index"]: one["in_step_at"] for one in found}


def _id(generation: Generation, partition: str) -> str:
    return f"{generation.uuid}:{partition}"


def _to_json(generation: Generation, checkpoint: Checkpoint) -> dict[str, Any]:
    stored = asdict(checkpoint)
    del stored["seq_no"], stored["primary_term"], stored["updated_at"]
    return {
        "kind": "checkpoint",
        "index": generation.index,
        "generation": generation.name,
        "updated_at": datetime.now(UTC).isoformat(),
        **stored,
    }


def _from_json(hit: dict[str, Any]) -> Checkpoint:
    stored = hit["_source"]
    return Checkpoint(
        partition=stored["partition"],
        fingerprint=stored["fingerprint"],
        full_pass=_full_pass(stored["full_pass"]) if stored["full_pass"] else None,
        watermark=stored["watermark"],
        horizon=stored["horizon"],
        marks=[Mark(**mark) for mark in stored["marks"]],
        origin=stored["origin"],
        unsure=stored["unsure"],
        activity=stored["activity"],
        version=stored["version"],
        window=Window(**stored["window"]) if stored["window"] else None,
        updated_at=stored["updated_at"],
        seq_no=hit["_seq_no"],
        primary_term=hit["_primary_term"],
    )


def _full_pass(stored: dict[str, Any]) -> FullPass:
    mark = stored["mark"]
    return FullPass(stored["limit"], Mark(**mark) if mark else None, stored["after"])
