"""What one request may ask for at most."""

from dataclasses import dataclass

FEATURES = frozenset(
    {"search", "count", "facets", "highlight", "suggest", "documents", "scroll", "cursor", "export"}
)


@dataclass(frozen=True, slots=True)
class Caps:
    """Bounds of a request, and the features that it may use.

    `clauses` counts the conditions and groups of a search, `values` those of one list, `depth` how
    deep groups and negations lie in one another, `words` and `text` (characters) what full text may
    have, `buckets` those of one facet, `searches` those of one `POST /search/many`. `export` is the
    number of documents in one export; None: all.
    """

    page_size: int = 1000
    clauses: int = 200
    values: int = 1024
    depth: int = 5
    words: int = 50
    text: int = 1000
    text_fields: int = 50
    facets: int = 20
    buckets: int = 1000
    suggestions: int = 100
    searches: int = 10
    export: int | None = None
    features: frozenset[str] = FEATURES
