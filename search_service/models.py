"""Requests and answers, as the OpenAPI document shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

MAX_VALUES = 1024
MAX_NAMES = 1000
MAX_CONDITIONS = 100
MAX_CURSOR_CHARACTERS = 40_000

_SCALAR = {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]}
_BOUND = {"anyOf": [{"type": "string"}, {"type": "number"}]}

# Checked in query.py, where the field's type is known.
Condition = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "A value (exact), a list of values (any of them), or a range.",
            "anyOf": [
                *_SCALAR["anyOf"],
                {"type": "array", "items": _SCALAR, "minItems": 1, "maxItems": MAX_VALUES},
                {
                    "type": "object",
                    "properties": {"gte": _BOUND, "lte": _BOUND},
                    "minProperties": 1,
                    "additionalProperties": False,
                },
            ],
        }
    ),
]
Names = Annotated[list[str], Field(min_length=1, max_length=MAX_NAMES)]


class SearchRequest(BaseModel):
    """A search of one index."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "index": "flights",
                    "query_fields": {
                        "carrier": ["UA", "AA"],
                        "origin": "JFK",
                        "time_hour": {"gte": "2013-06-01", "lte": "2013-06-30"},
                        "dep_delay": {"gte": 60},
                    },
                    "fields": ["flight_id", "carrier", "flight", "dest", "dep_delay"],
                    "sort_by": {"dep_delay": "desc"},
                    "page": 1,
                    "page_size": 10,
                }
            ]
        },
    )

    index: str = Field(min_length=1, max_length=255, description="One of GET /indices.")
    query_fields: dict[str, Condition] = Field(
        default_factory=dict,
        max_length=MAX_CONDITIONS,
        description="Conditions by field, all of which hold; none: every document. A text field is "
        "compared as a whole, case included. Dotted paths reach into objects.",
    )
    fields: Names | None = Field(
        default=None, description="The fields to return (an object: all below it); absent: all."
    )
    exclude_fields: list[str] | None = Field(
        default=None, max_length=MAX_NAMES, description="Fields to leave out of those."
    )
    sort_by: dict[str, Literal["asc", "desc"]] = Field(
        default_factory=dict,
        description="Direction by field, the first key first. Documents without a value come last. "
        "The table's key decides between equals, so that pages are stable.",
    )
    page: int = Field(default=1, ge=1, le=2**53, description="Counted from 1.")
    page_size: int | None = Field(
        default=None, ge=1, description="Documents in a page; absent: 10, or the cap if lower."
    )
    size: int | None = Field(default=None, ge=1, description="Another name of page_size.")

    @model_validator(mode="after")
    def _one_size(self) -> "SearchRequest":
        if self.size is not None and self.page_size is not None and self.size != self.page_size:
            raise ValueError("size and page_size are one thing; give one, or the same value")
        return self


class ScrollRequest(BaseModel):
    """The query parameters of a scroll."""

    model_config = ConfigDict(extra="forbid")

    cursor: str | None = Field(
        default=None,
        max_length=MAX_CURSOR_CHARACTERS,
        description="next_cursor of the previous page; absent: the first page.",
    )
    size: int | None = Field(
        default=None, ge=1, description="Documents in a page; absent: 100, or the cap if lower."
    )
    fields: list[str] = Field(
        default_factory=list,
        max_length=MAX_NAMES,
        description="The fields to return, repeated or separated by commas; absent: all.",
    )


class PageMeta(BaseModel):
    """Where a page of a search is."""

    total_records: int = Field(description="Documents that match, exactly.")
    page_size: int
    current_page: int
    total_pages: int
    has_next: bool
    has_previous: bool
    selected_fields: list[str]


class SearchResponse(BaseModel):
    """A page of documents."""

    data: list[dict[str, Any]]
    meta: PageMeta


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
