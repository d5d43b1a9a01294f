"""What the search service costs beside Elasticsearch itself: `make bench-search`."""
