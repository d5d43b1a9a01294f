"""Indices as users see them (an alias) and as they are (generations)."""

from dataclasses import dataclass
from typing import Any

from elasticsearch import BadRequestError, Elasticsearch, NotFoundError

from pg_es_pipeline.errors import IndexRefused
from pg_es_pipeline.sync.documents import META, Document
from pg_es_pipeline.sync.elastic import reason, speaking

GC_DELETES = "15m"
"""How long a deleted document's version is remembered: longer than any bulk request can be late."""

USUAL_FIELDS = 1000
"""How many fields Elasticsearch lets an index have without being asked."""

SEARCH_IDLE_AFTER = "1s"
"""While nobody searches, Elasticsearch leaves out its refreshes, which cost a load a quarter of its
speed: but by itself only after half a minute. A search meanwhile refreshes, and waits for that."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One physical index behind the alias."""

    index: str
    """The alias."""
    name: str
    uuid: str

    @property
    def write_alias(self) -> str:
        """What bulk requests name, together with `require_alias`: if the generation is gone, they
        fail, where the bare name would make an index anew, without a mapping."""
        return write_alias(self.name)


def write_alias(name: str) -> str:
    # No index can have a name with upper-case letters: Elasticsearch would make one for a request
    # of deletes alone, whatever `require_alias` says.
    return f"{name}.WRITE"


class Indices:
    """Finds and makes generations."""

    def __init__(self, client: Elasticsearch) -> None:
        self._client = client

    def find(self, document: Document) -> Generation | None:
        """The generation that the alias points at; None where there is no index yet.

        Raises IndexRefused when the name belongs to something else.
        """
        index = document.source.table.index
        with speaking(f"looking up the index {index}"):
            try:
                found = self._client.indices.get(index=index, flat_settings=True)
            except NotFoundError:
                return None
        if index in found:
            raise IndexRefused(
                f"{index}: there is an index of that name already, which this pipeline did not "
                "make. Choose another `index` in the tables file, or delete it."
            )
        if len(found) > 1:
            raise IndexRefused(
                f"{index}: the alias points at {len(found)} indices ({', '.join(sorted(found))}). "
                "Point it at one of them."
            )
        [(name, state)] = found.items()
        meta = state["mappings"].get("_meta", {}).get(META, {})
        owner, key = meta.get("table"), [column.name for column in document.source.key]
        if owner != document.source.table.table:
            raise IndexRefused(
                f"{index}: the index belongs to {owner or 'something else'}, not to "
                f"{document.source.table.table}. Choose another `index` in the tables file."
            )
        if meta.get("key") != key:
            raise IndexRefused(
                f"{index}: the documents of {name} go by the key {meta.get('key')}, and those of "
                f"{owner} would go by {key} now: every row would be there twice. Put the key back, "
                f"or delete {name}: the next run loads the table afresh."
            )
        return Generation(index, name, state["settings"]["index.uuid"])

    def ensure(self, document: Document) -> Generation:
        """The generation to write to, made if missing, with every field of the document mapped.

        Raises IndexRefused, naming the field, where a field's mapping has become another.
        """
        generation = self.find(document)
        if generation is None:
            generation = self._create(document)
        else:
            self._extend(generation, document)
        return generation

    def refresh(self, generation: Generation) -> None:
        """Makes everything written so far searchable."""
        with speaking(f"refreshing {generation.name}"):
            self._client.indices.refresh(index=generation.name)

    def _create(self, document: Document) -> Generation:
        index = document.source.table.index
        name = f"{index}-000001"
        aliases: dict[str, Any] = {
            index: {"is_write_index": True},
            write_alias(name): {"is_hidden": True},
        }
        with speaking(f"creating the index {name}"):
            try:
                self._client.indices.create(
                    index=name,
                    aliases=aliases,
                    mappings=document.mappings(),
                    settings={
                        **_room_for(document.mappings()["properties"]),
                        "index.gc_deletes": GC_DELETES,
                        "index.search.idle.after": SEARCH_IDLE_AFTER,
                    },
                )
            except BadRequestError as error:
                # Another run may have been faster.
                if "resource_already_exists_exception" not in str(error):
                    raise
        generation = self.find(document)
        if generation is None:
            raise IndexRefused(
                f"{index}: there is an index {name} without the alias {index}. Add the alias to "
                "it, or delete it: the next run loads it afresh."
            )
        return generation

    def _extend(self, generation: Generation, document: Document) -> None:
        mappings = document.mappings()
        with speaking(f"reading the mapping of {generation.name}"):
            present = self._client.indices.get(
                index=generation.name, features=["aliases", "mappings"]
            )[generation.name]
            if generation.write_alias not in present["aliases"]:
                # Somebody has removed it; the index is ours all the same.
                own = {"index": generation.name, "alias": generation.write_alias}
                self._client.indices.update_aliases(actions=[{"add": {**own, "is_hidden": True}}])
        if all(
            present["mappings"].get("properties", {}).get(name) == wanted
            for name, wanted in mappings["properties"].items()
        ):
            return
        names_have_dots = mappings.pop("subobjects", True) is False
        if names_have_dots and present["mappings"].get("subobjects") is not False:
            raise IndexRefused(
                f"{generation.index}: a column has a dot in its name now, for which the index has "
                f"to be made anew. Leave it out with `exclude`, or delete {generation.name}: the "
                "next run loads the table afresh."
            )
        room = _room_for({**present["mappings"].get("properties", {}), **mappings["properties"]})
        with speaking(f"adding fields to {generation.name}"):
            try:
                if room:
                    self._client.indices.put_settings(index=generation.name, settings=room)
                self._client.indices.put_mapping(index=generation.name, **_body(mappings))
            except BadRequestError as error:
                raise IndexRefused(
                    f"{generation.index}: the table's columns or the tables file ask for another "
                    f"mapping than the index {generation.name} has: {reason(error)}. A field's "
                    f"mapping cannot change in place. Delete {generation.name}: the next run loads "
                    "the table afresh."
                ) from None


def _room_for(properties: dict[str, Any]) -> dict[str, int]:
    """The setting that so many fields need."""
    needed = _count(properties)
    return {"index.mapping.total_fields.limit": needed} if needed > USUAL_FIELDS else {}


def _count(properties: dict[str, Any]) -> int:
    return sum(
        1 + _count(field.get("properties", {})) + _count(field.get("fields", {}))
        for field in properties.values()
    )


def _body(mappings: dict[str, Any]) -> dict[str, Any]:
    return {"meta" if key == "_meta" else key: value for key, value in mappings.items()}
