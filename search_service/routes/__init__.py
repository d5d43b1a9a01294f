"""The endpoints: check the request, ask Elasticsearch, shape the answer."""

from fastapi import APIRouter

from search_service.routes import documents, export, health, indices, scroll, search

router = APIRouter()
for part in (search, scroll, export, documents, indices, health):
    router.include_router(part.router)
