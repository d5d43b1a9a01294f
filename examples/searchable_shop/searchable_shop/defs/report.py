"""What is made of the index."""

import dagster as dg

from pg_es_pipeline.orchestration.resources import ElasticsearchResource
from pg_es_pipeline.sync.elastic import connect


@dg.asset(deps=[dg.AssetKey(["search", "orders"])], group_name="reports")
def search_report(elasticsearch: ElasticsearchResource) -> dg.MaterializeResult[None]:
    """How many orders each customer has, by Elasticsearch."""
    with connect(elasticsearch.settings(), 1) as client:
        found = client.search(
            index="shop-orders",
            size=0,
            aggregations={"customers": {"terms": {"field": "customer.raw"}}},
        )
    customers = found["aggregations"]["customers"]["buckets"]
    counts = {customer["key"]: customer["doc_count"] for customer in customers}
    return dg.MaterializeResult(metadata={"orders": counts})
