"""Which mappings an index can take over, and which it has to be made anew for."""

from typing import Any

import pytest

from pg_es_pipeline.sync.mappings import differences

TEXT = {"type": "text"}
VECTOR = {"type": "dense_vector", "dims": 3}
LIVE_VECTOR = {
    **VECTOR,
    "index": True,
    "similarity": "cosine",
    "index_options": {"type": "int8_hnsw", "m": 16, "ef_construction": 100},
}
"""As Elasticsearch answers."""


def said(wanted: dict[str, Any], present: dict[str, Any]) -> list[str]:
    return list(map(str, differences({"f": wanted}, {"f": present})))


@pytest.mark.parametrize(
    ("wanted", "present"),
    [
        (TEXT, TEXT),
        ({**TEXT, "analyzer": "standard"}, TEXT),
        ({**TEXT, "norms": True, "index_options": "positions", "similarity": "BM25"}, TEXT),
        ({"type": "keyword", "norms": False, "doc_values": "true"}, {"type": "keyword"}),
        ({"type": "keyword", "ignore_above": 5}, {"type": "keyword", "ignore_above": 7}),
        ({**TEXT, "fields": {"raw": {"type": "keyword"}}}, TEXT),
        ({"properties": {"a": TEXT, "b": TEXT}}, {"properties": {"a": TEXT}}),
        ({"type": "object", "properties": {}}, {"properties": {}}),
        ({"type": "date", "locale": "en"}, {"type": "date"}),
        ({"type": "dense_vector"}, LIVE_VECTOR),
        ({**VECTOR, "similarity": "cosine"}, LIVE_VECTOR),
        ({**VECTOR, "index_options": {"type": "int8_hnsw", "m": 16}}, LIVE_VECTOR),
        (
            {"type": "completion"},
            {"type": "completion", "analyzer": "simple", "max_input_length": 50},
        ),
    ],
)
def test_what_can_stay(wanted: dict[str, Any], present: dict[str, Any]) -> None:
    assert said(wanted, present) == []


@pytest.mark.parametrize(
    ("wanted", "present", "expected"),
    [
        ({"type": "keyword"}, TEXT, "f: type is text, not keyword"),
        (TEXT, {"properties": {"a": TEXT}}, "f: type is object, not text"),
        ({**TEXT, "analyzer": "english"}, TEXT, "f: analyzer is default, not english"),
        (TEXT, {**TEXT, "analyzer": "english"}, "f: analyzer is english, not default"),
        ({**TEXT, "norms": False}, TEXT, "f: norms is true, not false"),
        (
            {"type": "keyword", "null_value": "none at all"},
            {"type": "keyword"},
            "f: null_value is the default, not none at all",
        ),
        (
            {"type": "date", "format": "epoch_second"},
            {"type": "date"},
            "f: format is strict_date_optional_time||epoch_millis, not epoch_second",
        ),
        (
            {"properties": {"a": {"type": "long"}}},
            {"properties": {"a": TEXT}},
            "f.a: type is text, not long",
        ),
        (
            {**TEXT, "fields": {"raw": {"type": "keyword", "doc_values": False}}},
            {**TEXT, "fields": {"raw": {"type": "keyword"}}},
            "f.raw: doc_values is true, not false",
        ),
        ({**VECTOR, "dims": 4}, LIVE_VECTOR, "f: dims is 3, not 4"),
        ({**VECTOR, "similarity": "l2_norm"}, LIVE_VECTOR, "f: similarity is cosine, not l2_norm"),
        ({**VECTOR, "index": False}, LIVE_VECTOR, "f: index is true, not false"),
        (
            {**VECTOR, "index_options": {"type": "hnsw"}},
            {**LIVE_VECTOR, "index_options": {"type": "flat"}},
            "f: index_options is {'type': 'flat'}, not {'type': 'hnsw'}",
        ),
        (
            {"type": "completion", "analyzer": "standard"},
            {"type": "completion", "analyzer": "simple"},
            "f: analyzer is simple, not default",
        ),
        (
            {"type": "keyword", "doc_values": False, "index": False},
            {"type": "keyword"},
            "f: doc_values is true, not false; index is true, not false",
        ),
    ],
)
def test_what_needs_a_new_generation(
    wanted: dict[str, Any], present: dict[str, Any], expected: str
) -> None:
    assert said(wanted, present) == [expected]


def test_a_field_that_is_gone_or_new_is_no_difference() -> None:
    assert list(differences({"new": TEXT}, {"old": TEXT})) == []
