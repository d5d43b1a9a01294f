"""What can be searched, and how fresh it is."""

from typing import Any

from fastapi import Request

from search_service.answers import FieldList, IndexList, IndexStatus
from search_service.context import elastic, find, settings, visible
from search_service.indices import Freshness, count_documents, freshness
from search_service.routes.names import IndexName
from search_service.routes.problems import problems
from search_service.routes.router import router


@router.get(
    "/indices/{index}/fields",
    summary="The fields of an index",
    responses=problems(s404="No such index.", s422="The name is too long."),
)
async def fields(index: IndexName, request: Request) -> FieldList:
    """The fields that can be returned, with Elasticsearch's type of each, and what they are for."""
    found = await find(request, index)
    leaves = found.fields.leaves
    return FieldList(
        index=found.name,
        fields=list(leaves),
        field_types={path: field.type for path, field in leaves.items()},
        key=list(found.key) if leaves.keys() >= set(found.key) else [],
        filterable=[path for path, field in leaves.items() if field.filterable],
        sortable=[path for path, field in leaves.items() if field.sortable],
    )


@router.get("/indices", summary="The indexes", responses=problems())
async def indices(request: Request) -> IndexList:
    """The indexes that can be searched: their table, size, and how fresh they are."""
    found = await visible(request)
    counts = await count_documents(elastic(request), found)
    fresh = await freshness(elastic(request), found, settings(request).search_timeout)
    return IndexList(
        indices=[
            IndexStatus(
                index=index.name,
                table=index.table,
                documents=counts[index.name],
                **freshness_of(fresh.get(index.name)),
            )
            for index in found
            if index.name in counts
        ]
    )


def freshness_of(known: Freshness | None) -> dict[str, Any]:
    return {
        "in_step_at": known.in_step_at if known else None,
        "lag_seconds": known.lag if known else None,
    }
