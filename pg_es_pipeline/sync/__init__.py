"""The engine: moves rows from PostgreSQL to Elasticsearch. Imports nothing of Dagster."""
