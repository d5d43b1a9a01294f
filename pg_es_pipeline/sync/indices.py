"""Indices as users see them (an alias) and as they are (generations).

What a generation is for is said by its aliases: the live one has the index's own name, the next
one, which is being loaded, `<index>.NEXT`, and those that were live before `<index>.OLD`. So one
request moves all of them at once.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from elasticsearch import BadRequestError, Elasticsearch

from pg_es_pipeline.errors import IndexRefused
from pg_es_pipeline.sync.documents import META, Document
from pg_es_pipeline.sync.elastic import reason, speaking
from pg_es_pipeline.sync.mappings import Difference, differences

GC_DELETES = "15m"
"""How long a deleted document's version is remembered: longer than any bulk request can be late."""

USUAL_FIELDS = 1000
"""How many fields Elasticsearch lets an index have without being asked."""

SEARCH_IDLE_AFTER = "1s"
"""While nobody searches, Elasticsearch leaves out its refreshes, which cost a load a quarter of its
speed: but by itself only after half a minute. A search meanwhile refreshes, and waits for that."""

REFRESHED = 10
"""Generations in one request: their names, of 255 bytes at most, are in its first line, which may
have 4,096."""

SETTLING = "10m"
"""How long the copies of a new generation may take to be made before it goes live without them."""

# Settings that Elasticsearch gives an index itself, and those that a stop of the past has left.
_OWN_SETTINGS = re.compile(
    r"index\.(uuid|provided_name|creation_date.*|version\..*|history\.uuid|resize\..*|blocks\..*"
    r"|routing\.allocation\.initial_recovery\..*|verified_before_close|mapping\.total_fields\.limit"
    r"|lifecycle\..*)"
)

# Nobody searches the next generation: its copies are made once it is loaded, from its files.
_WHILE_LOADING = {"index.number_of_replicas": 0, "index.auto_expand_replicas": False}


_NUMBER = r"-\d{6,}"


@dataclass(frozen=True, slots=True)
class Generation:
    """One physical index behind the alias."""

    index: str
    """The alias."""
    name: str
    uuid: str
    mappings: Mapping[str, Any] = field(compare=False, repr=False, default_factory=dict[str, Any])
    aliases: frozenset[str] = field(compare=False, repr=False, default=frozenset())

    @property
    def write_alias(self) -> str:
        """What bulk requests name, together with `require_alias`: if the generation is gone, they
        fail, where the bare name would make an index anew, without a mapping."""
        return write_alias(self.name)

    @property
    def about(self) -> Mapping[str, Any]:
        """What this pipeline has noted in the index."""
        noted = self.mappings.get("_meta", {}).get(META, {})
        return noted if isinstance(noted, dict) else {}

    @property
    def properties(self) -> Mapping[str, Any]:
        return dict(self.mappings.get("properties", {}))

    def declines(self, document: Document) -> bool:
        """Whether a generation made for these documents was tried, and rolled back to this one."""
        return self.about.get("declined") == document.layout

    def differences(self, document: Document) -> tuple[Difference, ...]:
        """Why the table's rows, as they are now, need a generation made anew; empty: they fit."""
        wanted = document.mappings()
        found = []
        key = [column.name for column in document.source.key]
        if self.about.get("key") != key:
            had, has = (", ".join(map(str, one)) for one in (self.about.get("key") or [], key))
            found.append(Difference("", f"the key is ({had}), not ({has})"))
        if wanted.get("subobjects") is False and self.mappings.get("subobjects") is not False:
            found.append(Difference("", "fields with a dot in their name are not allowed"))
        return (*found, *differences(wanted["properties"], self.properties))


def write_alias(name: str) -> str:
    # No index can have a name with upper-case letters: Elasticsearch would make one for a request
    # of deletes alone, whatever `require_alias` says.
    return f"{name}.WRITE"


def next_alias(index: str) -> str:
    return f"{index}.NEXT"


def old_alias(index: str) -> str:
    return f"{index}.OLD"


class Indices:
    """Finds, makes, switches and removes generations."""

    def __init__(self, client: Elasticsearch) -> None:
        self._client = client

    def find(self, document: Document) -> Generation | None:
        """The live generation; None where there is no index yet.

        Raises IndexRefused when the name belongs to something else.
        """
        found = self.find_all([document])[document.source.table.index]
        if isinstance(found, IndexRefused):
            raise found
        return found

    def find_all(
        self, documents: Sequence[Document]
    ) -> dict[str, "Generation | IndexRefused | None"]:
        """The same of many, in few requests, by index."""
        names = [document.source.table.index for document in documents]
        found: dict[str, Any] = {}
        for some in _by_length(names):
            what = f"looking up the index {some[0]}" if len(some) == 1 else "looking up the indices"
            with speaking(what):
                answer = self._client.indices.get(
                    index=some, ignore_unavailable=True, allow_no_indices=True, flat_settings=True
                )
            found |= answer.body
        return {document.source.table.index: _live(document, found) for document in documents}

    def next(self, index: str) -> Generation | None:
        """The generation that is being loaded beside the live one."""
        return next(iter(self._under(next_alias(index))), None)

    def old(self, index: str = "*") -> list[Generation]:
        """Those that were live before, of that index or of all, the last one first."""
        found = self._under(old_alias(index))
        return sorted(found, key=lambda one: str(one.about.get("retired_at")), reverse=True)

    def ensure(self, document: Document) -> Generation:
        """The live generation, made if missing."""
        generation = self.find(document)
        if generation is not None:
            return generation
        index = document.source.table.index
        taken = self._taken(index)
        roles = {index, next_alias(index), old_alias(index)}
        if idle := [name for name, state in taken.items() if not roles & state["aliases"].keys()]:
            raise IndexRefused(
                f"{index}: there is an index {idle[0]} without the alias {index}. Add the alias to "
                "it, or delete it: the next run loads it afresh."
            )
        # Somebody else's run may be a moment ahead.
        if not any(index in state["aliases"] for state in taken.values()):
            self._create(document, _following(index, taken), index, {})
        generation = self.find(document)
        if generation is None:
            raise IndexRefused(
                f"{index}: the index that was made a moment ago is gone. Run again: it is made and "
                "loaded afresh."
            )
        return generation

    def make_next(self, document: Document, live: Generation) -> Generation:
        """A new generation beside the live one, with its settings, save for copies."""
        taken = self._taken(live.index)
        settings = {**_carried(taken[live.name]["settings"]), **_WHILE_LOADING}
        name = _following(live.index, taken)
        self._create(document, name, next_alias(live.index), settings)
        made = self.next(live.index)
        if made is None:
            raise IndexRefused(
                f"{live.index}: the generation {name} that was made a moment ago is gone. Start "
                "the reindex again."
            )
        return made

    def _taken(self, index: str) -> dict[str, Any]:
        """All generations of an index, whatever they are for."""
        with speaking(f"looking up the generations of {index}"):
            found = self._client.indices.get(
                index=f"{index}-*",
                features=["aliases", "settings"],
                flat_settings=True,
                expand_wildcards="all",
            )
        pattern = re.compile(re.escape(index) + _NUMBER)
        return {name: state for name, state in found.items() if pattern.fullmatch(name)}

    def extend(self, generation: Generation, document: Document) -> None:
        """Adds to a generation what it lacks of a document that fits into it."""
        if generation.write_alias not in generation.aliases:
            # Somebody has removed it; the index is ours all the same.
            own = {"index": generation.name, "alias": generation.write_alias}
            with speaking(f"adding an alias to {generation.name}"):
                self._client.indices.update_aliases(actions=[{"add": {**own, "is_hidden": True}}])
        mappings, properties = document.mappings(), generation.properties
        order = mappings["_meta"][META].get("order")
        if generation.about.get("order") != order:
            with speaking(f"noting the order of {generation.name}"):
                self._note(generation, order=order)
        lacking = {
            name: wanted
            for name, wanted in mappings["properties"].items()
            if properties.get(name) != wanted
        }
        if not lacking:
            return
        room = _room_for({**properties, **lacking})
        with speaking(f"adding fields to {generation.name}"):
            try:
                if room:
                    self._client.indices.put_settings(index=generation.name, settings=room)
                self._client.indices.put_mapping(index=generation.name, properties=lacking)
            except BadRequestError as error:
                raise IndexRefused(
                    f"{generation.index}: the table's columns or the tables file ask for another "
                    f"mapping than the index {generation.name} has: {reason(error)}. Load a new "
                    f"generation beside it: `pg-es reindex {generation.index}`."
                ) from None

    def finish(self, generation: Generation, live: Generation) -> None:
        """Gives a generation that was loaded the copies that the live one has, and waits for them;
        not for copies that have no node to be on."""
        names = list(_WHILE_LOADING)
        with speaking(f"making copies of {generation.name}"):
            answer = self._client.indices.get_settings(index=live.name, flat_settings=True)
            wanted = answer[live.name]["settings"]
            self._client.indices.put_settings(
                index=generation.name, settings={name: wanted.get(name) for name in names}
            )
            self._client.options(request_timeout=660).cluster.health(
                index=generation.name, wait_for_no_initializing_shards=True, timeout=SETTLING
            )

    def switch(self, live: Generation, new: Generation, *, declined: str | None = None) -> None:
        """Lets the alias point at another generation, in one step; the one before becomes old.

        `declined`: the layout (`Document.layout`) that is not to be tried again by itself.
        """
        index = live.index
        now = datetime.now(UTC).isoformat()
        with speaking(f"switching {index} to {new.name}"):
            self._note(live, retired_at=now)
            self._note(new, retired_at=None, declined=declined)
            actions: list[dict[str, Any]] = [
                {"remove": {"index": live.name, "alias": index}},
                {"add": {"index": live.name, "alias": old_alias(index), "is_hidden": True}},
                {"add": {"index": new.name, "alias": index, "is_write_index": True}},
            ]
            actions += [
                {"remove": {"index": new.name, "alias": alias, "must_exist": False}}
                for alias in (next_alias(index), old_alias(index))
            ]
            self._client.indices.update_aliases(actions=actions)

    def remove(self, generation: Generation) -> None:
        """Deletes a generation that is not live."""
        with speaking(f"removing {generation.name}"):
            self._client.indices.delete(index=generation.name, ignore_unavailable=True)

    def refresh(self, *generations: Generation) -> None:
        """Makes everything written so far searchable."""
        for start in range(0, len(generations), REFRESHED):
            names = [one.name for one in generations[start : start + REFRESHED]]
            with speaking(f"refreshing {', '.join(names)}"):
                # One may have been replaced and removed meanwhile.
                self._client.indices.refresh(index=names, ignore_unavailable=True)

    def _create(
        self, document: Document, name: str, alias: str, settings: Mapping[str, Any]
    ) -> None:
        is_live = alias == document.source.table.index
        aliases: dict[str, Any] = {
            alias: {"is_write_index": True} if is_live else {"is_hidden": True},
            write_alias(name): {"is_hidden": True},
        }
        with speaking(f"creating the index {name}"):
            try:
                self._client.indices.create(
                    index=name,
                    aliases=aliases,
                    mappings=document.mappings(),
                    settings={
                        "index.search.idle.after": SEARCH_IDLE_AFTER,
                        **settings,
                        **_room_for(document.mappings()["properties"]),
                        "index.gc_deletes": GC_DELETES,
                    },
                )
            except BadRequestError as error:
                # Another run may have been faster.
                if "resource_already_exists_exception" not in str(error):
                    raise

    def _under(self, alias: str) -> list[Generation]:
        """The generations with such an alias, which ends in their role."""
        with speaking(f"looking up {alias}"):
            answer = self._client.indices.get(
                index=alias,
                ignore_unavailable=True,
                allow_no_indices=True,
                flat_settings=True,
                expand_wildcards="all",
            )
        role = alias[alias.rindex(".") :]
        return [
            _generation(name.removesuffix(role), generation, state)
            for generation, state in answer.items()
            for name in state["aliases"]
            if name.endswith(role) and META in state["mappings"].get("_meta", {})
        ]

    def _note(self, generation: Generation, **fields: Any) -> None:
        """Notes something of a generation in its mapping."""
        [answer] = self._client.indices.get_mapping(index=generation.name).values()
        meta = answer["mappings"].get("_meta", {})
        noted = {**meta.get(META, {}), **fields}
        kept = {name: value for name, value in noted.items() if value is not None}
        self._client.indices.put_mapping(index=generation.name, meta={**meta, META: kept})


def _live(document: Document, found: Mapping[str, Any]) -> Generation | IndexRefused | None:
    """Of all that was found: the generation that this document's alias points at."""
    index = document.source.table.index
    if index in found:
        return IndexRefused(
            f"{index}: there is an index of that name already, which this pipeline did not "
            "make. Choose another `index` in the tables file, or delete it."
        )
    names = [name for name, state in found.items() if index in state["aliases"]]
    if not names:
        return None
    if len(names) > 1:
        return IndexRefused(
            f"{index}: the alias points at {len(names)} indices ({', '.join(sorted(names))}). "
            "Point it at one of them."
        )
    [name] = names
    generation = _generation(index, name, found[name])
    owner = generation.about.get("table")
    if owner != document.source.table.table:
        return IndexRefused(
            f"{index}: the index belongs to {owner or 'something else'}, not to "
            f"{document.source.table.table}. Choose another `index` in the tables file."
        )
    return generation


def _generation(index: str, name: str, state: Mapping[str, Any]) -> Generation:
    return Generation(
        index,
        name,
        state["settings"]["index.uuid"],
        state["mappings"],
        frozenset(state["aliases"]),
    )


def _following(index: str, taken: Iterable[str]) -> str:
    """The name of the generation after all of these."""
    numbers = [int(name.removeprefix(f"{index}-")) for name in taken]
    return f"{index}-{max(numbers, default=0) + 1:06}"


def _by_length(names: Sequence[str]) -> list[list[str]]:
    """The names in lots that a request's first line has room for."""
    lots: list[list[str]] = [[]]
    for name in names:
        if sum(len(one.encode()) + 1 for one in lots[-1]) > 2_000:
            lots.append([])
        lots[-1].append(name)
    return [lot for lot in lots if lot]


def _carried(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What somebody has set for the live generation, and the next one is to have as well."""
    return {name: value for name, value in settings.items() if not _OWN_SETTINGS.fullmatch(name)}


def _room_for(properties: Mapping[str, Any]) -> dict[str, int]:
    """The setting that so many fields need."""
    needed = _count(properties)
    return {"index.mapping.total_fields.limit": needed} if needed > USUAL_FIELDS else {}


def _count(properties: Mapping[str, Any]) -> int:
    return sum(
        1 + _count(field.get("properties", {})) + _count(field.get("fields", {}))
        for field in properties.values()
    )
