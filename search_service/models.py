"""Requests, as the OpenAPI document shows them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from search_service.schemas import named

MAX_NAMES = 1000
MAX_CONDITIONS = 100
MAX_CURSOR_CHARACTERS = 40_000
MAX_TEXT_CHARACTERS = 10_000
# An address has at most 64 KiB, and a character of it up to 12: what is longer, the server refuses
# before the service sees it. Cursors have no bound of their own there for the same reason.
MAX_ADDRESS_CHARACTERS = 4_000
MAX_SEARCHES = 100
MAX_FACETS = 100
MAX_RANGES = 100

Condition = Annotated[Any, named("Condition")]
Group = Annotated[Any, named("Group")]
Bound = Annotated[Any, named("Bound")]
Order = Annotated[Any, named("Order")]
Names = Annotated[list[str], Field(min_length=1, max_length=MAX_NAMES)]
Conditions = Annotated[dict[str, Condition], Field(max_length=MAX_CONDITIONS)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Text(_Request):
    """Words to find in text fields."""

    text: str = Field(min_length=1, max_length=MAX_TEXT_CHARACTERS, examples=["late arrival"])
    fields: Names | dict[str, Annotated[float, Field(gt=0, le=1000)]] | None = Field(
        default=None,
        description="The text fields to look in, or their weights by field; absent: all.",
        examples=[{"title": 3, "body": 1}],
    )
    operator: Literal["all", "any"] = Field(
        default="all", description="Whether all the words are to be found, or any of them."
    )
    phrase: bool = Field(default=False, description="The words next to each other, in this order.")
    fuzziness: Literal["auto"] | Literal[0, 1, 2] | None = Field(
        default=None,
        description="Letters that a word may differ in; auto: by its length. All the words are "
        "then looked for in one field.",
    )
    minimum_match: Annotated[int, Field(ge=1, le=1000)] | str | None = Field(
        default=None,
        description='With the operator any: how many words are to be found, 2 or "75%".',
        examples=["75%"],
    )

    @model_validator(mode="after")
    def _options_agree(self) -> "Text":
        if self.phrase and self.fuzziness is not None:
            raise ValueError("a phrase has no fuzziness; leave one of them out")
        if self.minimum_match is not None:
            if self.phrase or self.operator == "all":
                raise ValueError("minimum_match goes with the operator any")
            if isinstance(self.minimum_match, str) and not _is_percentage(self.minimum_match):
                raise ValueError("minimum_match is a number of words, or a share such as 75%")
        return self


_Words = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)]


def _as_text(given: Any) -> Any:
    return {"text": given} if isinstance(given, str) else given


def _is_percentage(text: str) -> bool:
    digits = text.removesuffix("%")
    return text.endswith("%") and digits.isascii() and digits.isdigit() and 1 <= int(digits) <= 100


class Highlight(_Request):
    """How found words are shown in their surroundings."""

    fields: Names | None = Field(default=None, description="Text fields; absent: those of q.")
    fragments: int = Field(default=3, ge=1, le=20, description="Most fragments of a field.")
    fragment_size: int = Field(default=150, ge=20, le=2000, description="Characters of each.")
    before: str = Field(default="<em>", max_length=100, description="What begins a found word.")
    after: str = Field(default="</em>", max_length=100, description="What ends it.")


class Matching(_Request):
    """Which documents match: those that meet all of what is given."""

    q: Annotated[
        Text | None, BeforeValidator(_as_text, json_schema_input_type=_Words | Text | None)
    ] = Field(
        default=None,
        description="Full text: words that are found in the text fields, whatever their case; or "
        "an object with options.",
    )
    query_fields: Conditions = Field(
        default_factory=dict,
        description="Conditions by field, all of which hold; none: every document. A text field is "
        "compared as a whole, case included. Dotted paths reach into objects.",
    )
    filter: Group | None = Field(
        default=None, description="Groups of conditions, which hold beside query_fields."
    )


class TermsFacet(_Request):
    """The most frequent values of a field."""

    type: Literal["terms"]
    field: str | None = Field(default=None, description="Absent: the facet's name.")
    size: int = Field(default=10, ge=1, description="Most values.")
    order: Literal["count", "value"] = Field(
        default="count", description="The most frequent first, or by value."
    )


class FacetRange(_Request):
    """From a bound, included, to a bound, excluded; one is enough."""

    key: str | None = Field(default=None, min_length=1, max_length=255)
    from_: Bound = Field(default=None, alias="from")
    to: Bound = None


class RangesFacet(_Request):
    """Documents in given ranges of a number, date or address."""

    type: Literal["ranges"]
    field: str | None = Field(default=None, description="Absent: the facet's name.")
    ranges: list[FacetRange] = Field(min_length=1, max_length=MAX_RANGES)


class HistogramFacet(_Request):
    """Documents in ranges of one width; empty ones are left out."""

    type: Literal["histogram"]
    field: str | None = Field(default=None, description="Absent: the facet's name.")
    interval: float = Field(gt=0, allow_inf_nan=False)


class DatesFacet(_Request):
    """Documents in each hour, day, … of a date; empty ones are left out."""

    type: Literal["dates"]
    field: str | None = Field(default=None, description="Absent: the facet's name.")
    every: Literal["minute", "hour", "day", "week", "month", "quarter", "year"]
    time_zone: str = Field(default="UTC", max_length=64, examples=["Europe/Berlin"])


Facet = Annotated[
    TermsFacet | RangesFacet | HistogramFacet | DatesFacet, Field(discriminator="type")
]


class Page(_Request):
    """Which part of the documents an answer has, and in what order."""

    fields: Names | None = Field(
        default=None, description="The fields to return (an object: all below it); absent: all."
    )
    exclude_fields: list[str] | None = Field(
        default=None, max_length=MAX_NAMES, description="Fields to leave out of those."
    )
    sort_by: dict[str, Order] = Field(
        default_factory=dict,
        description="Order by field, the first key first. Documents without a value come last. "
        "The table's key decides between equals, so that pages are stable. With q, `_score` is the "
        "relevance; absent: by relevance with q, else by the key.",
    )


class SearchRequest(Matching, Page):
    """A search of one index."""

    model_config = ConfigDict(
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
                },
                {
                    "index": "flights",
                    "q": "united",
                    "filter": {"any": [{"dest": "SFO"}, {"dep_delay": {"lt": 0}}]},
                    "facets": {"carrier": {"type": "terms", "size": 5}},
                    "pagination": "cursor",
                },
            ]
        },
    )

    index: str = Field(min_length=1, max_length=255, description="One of GET /indices.")
    page: int = Field(default=1, ge=1, le=2**53, description="Counted from 1.")
    page_size: int | None = Field(
        default=None, ge=1, description="Documents in a page; absent: 10, or the cap if lower."
    )
    size: int | None = Field(default=None, ge=1, description="Another name of page_size.")
    pagination: Literal["pages", "cursor"] = Field(
        default="pages",
        description="`cursor` begins a walk through all that matches, as it is now: the answer has "
        "next_cursor and previous_cursor in place of page numbers.",
    )
    cursor: str | None = Field(
        default=None,
        max_length=MAX_CURSOR_CHARACTERS,
        description="next_cursor or previous_cursor of a page of the same search.",
    )
    highlight: bool | Highlight = Field(
        default=False, description="Whether fragments with the words of q are wanted."
    )
    facets: dict[str, Facet] = Field(
        default_factory=dict,
        max_length=MAX_FACETS,
        description="Counts of the documents that match, by name.",
    )

    @model_validator(mode="after")
    def _options_agree(self) -> "SearchRequest":
        if self.size is not None and self.page_size is not None and self.size != self.page_size:
            raise ValueError("size and page_size are one thing; give one, or the same value")
        if self.walks and self.page != 1:
            raise ValueError("a walk with cursors has no page numbers; leave page out")
        if self.highlight and self.q is None:
            raise ValueError("highlight shows the words of q; give q as well")
        return self

    @property
    def walks(self) -> bool:
        """Whether its pages have cursors."""
        return self.pagination == "cursor" or self.cursor is not None


class ManyRequest(_Request):
    """Several searches, each as for POST /search."""

    searches: list[SearchRequest] = Field(min_length=1, max_length=MAX_SEARCHES)


class CountRequest(Matching):
    """What to count."""

    index: str = Field(min_length=1, max_length=255, description="One of GET /indices.")


class ExportRequest(Matching, Page):
    """What to export."""

    format: Literal["ndjson", "csv"] = Field(
        default="ndjson", description="A JSON object in each line, or a table with a head."
    )
    limit: int | None = Field(default=None, ge=1, description="Most documents; absent: all.")


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ScrollRequest(_Parameters):
    """The query parameters of a scroll."""

    cursor: str | None = Field(
        default=None,
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


class SimpleSearch(_Parameters):
    """The query parameters of a search."""

    q: str | None = Field(
        default=None, min_length=1, max_length=MAX_ADDRESS_CHARACTERS, description="Words to find."
    )
    filter: list[str] = Field(
        default_factory=list,
        max_length=MAX_CONDITIONS,
        description="Conditions such as `status:paid`, all of which hold.",
        examples=[["carrier:UA,AA", "dep_delay:>=60"]],
    )
    sort: list[str] = Field(
        default_factory=list,
        max_length=MAX_NAMES,
        description="Fields, each with `-` before it when descending; repeated or by commas.",
        examples=[["-dep_delay"]],
    )
    fields: list[str] = Field(
        default_factory=list,
        max_length=MAX_NAMES,
        description="The fields to return, repeated or separated by commas; absent: all.",
    )
    facet: list[str] = Field(
        default_factory=list,
        max_length=MAX_FACETS,
        description="Fields whose most frequent values are wanted; repeated or by commas.",
    )
    highlight: bool = Field(default=False, description="Whether fragments are wanted.")
    page: int = Field(default=1, ge=1, le=2**53, description="Counted from 1.")
    page_size: int | None = Field(default=None, ge=1, description="Documents in a page.")
    pagination: Literal["pages", "cursor"] = Field(
        default="pages", description="Page numbers, or cursors as in POST /search."
    )
    cursor: str | None = Field(
        default=None,
        description="next_cursor or previous_cursor of a page of the same search.",
    )


class SuggestRequest(_Parameters):
    """The query parameters of suggestions."""

    field: str = Field(description="A field of texts.", examples=["carrier"])
    prefix: str = Field(
        min_length=1, max_length=200, description="What the values begin with, whatever its case."
    )
    size: int = Field(default=10, ge=1, description="Most suggestions.")


class DocumentRequest(_Parameters):
    """The query parameters of a document."""

    fields: list[str] = Field(
        default_factory=list,
        max_length=MAX_NAMES,
        description="The fields to return, repeated or separated by commas; absent: all.",
    )
