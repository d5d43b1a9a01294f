"""Answers, as the OpenAPI document shows them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class PageMeta(BaseModel):
    """Where a page of a search is."""

    total_records: int = Field(description="Documents that match, exactly.")
    page_size: int
    current_page: int
    total_pages: int
    has_next: bool
    has_previous: bool
    selected_fields: list[str]


class CursorMeta(BaseModel):
    """Where a page of a walk with cursors is."""

    total_records: int = Field(description="Documents that match, exactly, when the walk began.")
    page_size: int
    has_next: bool
    has_previous: bool
    next_cursor: str | None = Field(description="Opaque; null on the last page.")
    previous_cursor: str | None = Field(description="Opaque; null on the first page.")
    selected_fields: list[str]


class Bucket(BaseModel):
    """How many documents have a value, or one in a range."""

    value: str | int | float | bool | None = Field(
        default=None, description="Of `terms`: the value. Of a histogram: where the bucket begins."
    )
    key: str | None = Field(default=None, description="Of `ranges`: the range's name.")
    from_: str | int | float | None = Field(default=None, alias="from")
    to: str | int | float | None = None
    count: int


class FacetResult(BaseModel):
    """The buckets of a facet."""

    buckets: list[Bucket]
    others: int | None = Field(
        default=None, description="Of `terms`: documents whose values are in no bucket."
    )


class SearchResponse(BaseModel):
    """A page of documents."""

    data: list[dict[str, Any]]
    meta: PageMeta | CursorMeta
    highlights: list[dict[str, list[str]]] | None = Field(
        default=None,
        description="When asked for: for each document of `data` the fragments, by field.",
    )
    facets: dict[str, FacetResult] | None = Field(default=None, description="When asked for.")


class ManyResponse(BaseModel):
    """The answers to several searches, in their order."""

    results: list[SearchResponse]


class Count(BaseModel):
    """How many documents match."""

    count: int


class Document(BaseModel):
    """One document."""

    data: dict[str, Any]


class Suggestion(BaseModel):
    """A value, and how many documents have it."""

    value: str
    count: int


class Suggestions(BaseModel):
    """Values that begin with a text, the most frequent first."""

    suggestions: list[Suggestion]


class ScrollMeta(BaseModel):
    """Where a page of a scroll is."""

    total_records: int = Field(description="Documents of the whole index, exactly.")
    page_size: int
    has_next: bool
    has_previous: bool
    next_cursor: str | None = Field(description="Opaque; null on the last page.")
    selected_fields: list[str]


class ScrollResponse(BaseModel):
    """A page of a walk over the whole index, in the order of the table's key."""

    data: list[dict[str, Any]]
    meta: ScrollMeta


class FieldList(BaseModel):
    """The fields of an index."""

    index: str
    fields: list[str] = Field(description="Dotted paths, without objects that have fields.")
    field_types: dict[str, str] = Field(description="Elasticsearch's type of each.")
    key: list[str] = Field(
        description="The fields that together name a document; none when one of them is not shown."
    )
    filterable: list[str] = Field(description="Those whose values conditions compare.")
    sortable: list[str] = Field(description="Those to sort by, and whose values facets count.")


class IndexStatus(BaseModel):
    """An index and how far it is behind its table."""

    index: str
    table: str
    documents: int | None = Field(description="null: Elasticsearch cannot count them now.")
    in_step_at: str | None = Field(
        description="Every change committed before this time is in the index; null: not known yet."
    )
    lag_seconds: float | None = Field(description="Now less in_step_at.")


class IndexList(BaseModel):
    """The indexes that can be searched."""

    indices: list[IndexStatus]


class IndexHealth(BaseModel):
    """The sync lag of an index."""

    index: str
    status: Literal["ok", "degraded"]
    in_step_at: str | None
    lag_seconds: float | None


class ElasticsearchHealth(BaseModel):
    """Elasticsearch's own word on its health."""

    status: Literal["green", "yellow", "red"]


class Health(BaseModel):
    """`degraded`: Elasticsearch is red, or an index lags behind more than SEARCH_MAX_LAG allows."""

    status: Literal["ok", "degraded"]
    elasticsearch: ElasticsearchHealth
    max_lag_seconds: float | None
    indices: list[IndexHealth]


class ProblemError(BaseModel):
    """One mistake of a request."""

    location: str = Field(description="Where in the body or the query parameters.")
    detail: str
    expected: str | None = Field(default=None, description="The field's type and values.")
    given: str | None = Field(default=None, description="The value, as JSON, shortened.")


class ProblemDetails(BaseModel):
    """An error, as in RFC 9457."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:pg-es-search:invalid-request",
                    "title": "Invalid request",
                    "status": 422,
                    "detail": 'query_fields.carier: unknown field. Did you mean "carrier"?',
                    "errors": [
                        {
                            "location": "query_fields.carier",
                            "detail": 'unknown field. Did you mean "carrier"?',
                        }
                    ],
                }
            ]
        }
    )

    type: str = Field(description="urn:pg-es-search: and the kind of problem.")
    title: str
    status: int
    detail: str = Field(description="What is wrong and what to do.")
    errors: list[ProblemError] | None = None
