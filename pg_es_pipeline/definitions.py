"""Everything that Dagster loads: the tables of the file that PG_ES_TABLES names."""

import dagster as dg

from pg_es_pipeline.orchestration.build import build_defs

defs = build_defs(executor=dg.in_process_executor)
