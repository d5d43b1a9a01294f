"""Everything that imports Dagster: assets, partitions, sensors, jobs, resources."""
