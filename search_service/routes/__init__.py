"""The endpoints: check the request, ask Elasticsearch, shape the answer."""

from search_service.routes import documents, export, health, indices, scroll, search
from search_service.routes.router import router

__all__ = ["documents", "export", "health", "indices", "router", "scroll", "search"]

# The first one that fits is taken, and most requests are searches.
router.routes.sort(key=lambda route: getattr(route, "path", "") != "/search")
