"""The REST service that searches what the pipeline has loaded into Elasticsearch."""
