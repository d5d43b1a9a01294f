"""All that matches, as a stream."""

import structlog
from elastic_transport import TransportError
from elasticsearch import ApiError
from fastapi import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from search_service.context import elastic, found_again, permit, points
from search_service.export import PART, Export, ndjson, table
from search_service.indices import Index
from search_service.models import ExportRequest
from search_service.query import Selection, export_body
from search_service.routes.names import IndexName
from search_service.routes.problems import BODY, problems
from search_service.routes.router import router

log = structlog.get_logger(__name__)

_MEDIA_TYPES = {"ndjson": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}


class ExportResponse(StreamingResponse):
    """An export as it comes. One that fails half-way ends without its last chunk, so that nobody
    takes it for a whole one."""

    export: Export

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Close what Elasticsearch keeps even if no part has been sent."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.export.close()

    async def stream_response(self, send: Send) -> None:
        """Send the parts, and the end only after all of them."""
        try:
            await super().stream_response(send)
        except (TransportError, ApiError) as error:
            log.warning("export_broken_off", reason=type(error).__name__)


@router.post(
    "/search/{index}/export",
    summary="Export documents",
    response_class=Response,
    responses={
        200: {
            "description": "The documents: one in each line, or a table.",
            "content": {
                "application/x-ndjson": {"schema": {"type": "string"}},
                "text/csv": {"schema": {"type": "string"}},
            },
        },
        **problems(
            **BODY,
            s403="The caller may not export.",
            s404="No such index.",
            s422="A field is unknown, or a value does not suit its field.",
        ),
    },
)
async def export(index: IndexName, body: ExportRequest, request: Request) -> Response:
    """All documents that match, as they are at its start, in any number.

    NDJSON, or CSV with the paths of the fields as its head, numbers with all their digits, and
    lists and objects in JSON. Without `sort_by` the order is that of storage, the fastest. One that
    breaks off ends without the last chunk of its body, which clients report as an error.
    """
    caps = permit(request, "export")
    limits = [limit for limit in (body.limit, caps.export) if limit is not None]

    async def begin(found: Index) -> tuple[Export, Selection]:
        query, selection = export_body(body, body, found, caps)
        part = min(PART, found.window)
        limit = min(limits) if limits else None
        exported = Export(elastic(request), points(request), query, limit, part)
        await exported.open(found.generation)
        return exported, selection

    found, (exported, selection) = await found_again(request, index, begin)
    is_table = body.format == "csv"
    response = ExportResponse(
        table(exported, selection.paths) if is_table else ndjson(exported, found.fields),
        media_type=_MEDIA_TYPES[body.format],
        headers={"content-disposition": f'attachment; filename="export.{body.format}"'},
    )
    response.export = exported
    return response
