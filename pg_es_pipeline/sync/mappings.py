"""Where a mapping that is wanted cannot become the one that an index has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# https://www.elastic.co/docs/reference/elasticsearch/mapping-reference/mapping-parameters
_CHANGEABLE = {
    *("boost", "coerce", "copy_to", "depth_limit", "dynamic", "eager_global_ordinals", "fielddata"),
    *("fields", "ignore_above", "ignore_malformed", "meta", "properties", "search_analyzer"),
    *("search_quote_analyzer", "split_queries_on_whitespace"),
}

# Elasticsearch leaves what is the default out of its answer.
_DEFAULTS = {
    "analyzer": "default",
    "doc_values": True,
    "enabled": True,
    "format": "strict_date_optional_time||epoch_millis",
    "index": True,
    "index_phrases": False,
    "normalizer": None,
    "null_value": None,
    "position_increment_gap": 100,
    "store": False,
    "term_vector": "no",
}
_DEFAULTS_BY_TYPE = {
    ("text", "index_options"): "positions",
    ("text", "norms"): True,
    ("text", "similarity"): "BM25",
    ("keyword", "index_options"): "docs",
    ("keyword", "norms"): False,
    ("keyword", "similarity"): "BM25",
}
# What Elasticsearch chooses where a mapping leaves it out, and then answers with.
_FILLED_IN = {
    "completion": {
        *("analyzer", "max_input_length", "preserve_position_increments", "preserve_separators")
    },
    "dense_vector": {"dims", "index_options", "similarity"},
}


@dataclass(frozen=True, slots=True)
class Difference:
    """What an index would have to be made anew for."""

    field: str
    """Its path; empty where it is about the index as a whole."""
    how: str

    def __str__(self) -> str:
        return f"{self.field}: {self.how}" if self.field else self.how


def differences(
    wanted: Mapping[str, Any], present: Mapping[str, Any], parent: str = ""
) -> Iterator[Difference]:
    """The fields whose mapping cannot become the wanted one; both are `properties` by name.

    A field that is missing is none of them: it can be added.
    """
    for name, mapping in wanted.items():
        if name not in present:
            continue
        path, other = parent + name, present[name]
        differing = [
            f"{parameter} is {_shown(other, parameter)}, not {_shown(mapping, parameter)}"
            for parameter in sorted({*mapping, *other} - _CHANGEABLE)
            if not _is_filled_in(mapping, other, parameter)
            and _value(mapping, parameter) != _value(other, parameter)
            # What is left out is the default, which we need not know.
            and (parameter in other or _has_known_default(other, parameter))
        ]
        if differing:
            yield Difference(path, "; ".join(differing))
        for inner in ("properties", "fields"):
            yield from differences(mapping.get(inner, {}), other.get(inner, {}), f"{path}.")


def _is_filled_in(wanted: Mapping[str, Any], present: Mapping[str, Any], parameter: str) -> bool:
    """Whether all that the index has beyond what is wanted was chosen by Elasticsearch."""
    if parameter not in _FILLED_IN.get(_type(wanted), ()):
        return False
    asked, answered = wanted.get(parameter, {}), present.get(parameter)
    if isinstance(asked, Mapping) and isinstance(answered, Mapping):
        return asked.items() <= answered.items()
    return parameter not in wanted


def _has_known_default(mapping: Mapping[str, Any], parameter: str) -> bool:
    return (
        parameter == "type"
        or parameter in _DEFAULTS
        or (_type(mapping), parameter) in _DEFAULTS_BY_TYPE
    )


def _value(mapping: Mapping[str, Any], parameter: str) -> str:
    if parameter == "type":
        return _type(mapping)
    default = _DEFAULTS_BY_TYPE.get((_type(mapping), parameter), _DEFAULTS.get(parameter))
    value = str(mapping.get(parameter, default)).lower()
    # The analyzer of an index that names none.
    return "default" if parameter == "analyzer" and value == "standard" else value


def _type(mapping: Mapping[str, Any]) -> str:
    return str(mapping.get("type", "object"))


def _shown(mapping: Mapping[str, Any], parameter: str) -> str:
    value = _value(mapping, parameter)
    return "the default" if value == "none" else value
