"""What Dagster loads, file by file."""
