"""Keeps Elasticsearch indices in step with PostgreSQL tables, orchestrated by Dagster."""
