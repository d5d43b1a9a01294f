"""One document by its key."""

import hashlib
from typing import Annotated

from fastapi import Path, Query, Request
from starlette.responses import Response

from search_service.answers import Document
from search_service.context import ask, find, permit
from search_service.errors import unknown_document
from search_service.models import DocumentRequest
from search_service.pages import decode_answer, respond_unless_known
from search_service.query import document_body
from search_service.routes.names import IndexName, split
from search_service.routes.problems import NOT_CHANGED, problems
from search_service.routes.router import router

_LONGEST = 512  # bytes of an `_id` in Elasticsearch
_HASHED = "sha256:"


@router.get(
    "/indices/{index}/documents/{id:path}",
    summary="One document",
    response_model=Document,
    responses={
        **NOT_CHANGED,
        **problems(
            s403="The caller may not read single documents.",
            s404="No such index, or no such document in it.",
            s422="A field is unknown.",
        ),
    },
)
async def document(
    index: IndexName,
    id: Annotated[
        str, Path(description="The table's key as text; of several columns a JSON array of texts.")
    ],
    parameters: Annotated[DocumentRequest, Query()],
    request: Request,
) -> Response:
    """The document with this id: the table's key as text, such as `42`, or `["a", "b"]` of a key of
    two columns."""
    permit(request, "documents")
    found = await find(request, index)
    if any(found.fields.hides(path) for path in (*found.key, *found.identity)):
        raise unknown_document(id)  # its key does not exist for this caller
    names = split(parameters.fields)
    found, raw = await ask(request, index, lambda found: document_body(found, _ids(id), names))
    hits = decode_answer(raw).hits.hits
    if not hits:
        raise unknown_document(id)
    return respond_unless_known(request, {"data": hits[0].source}, found.fields)


def _ids(key: str) -> list[str]:
    """The ids that the pipeline may have given a key: itself, or its hash."""
    text = key.encode(errors="replace")
    hashed = _HASHED + hashlib.sha256(text).hexdigest()
    if not text or len(text) > _LONGEST:
        return [hashed]
    return [key, hashed] if key.startswith(_HASHED) else [key]
