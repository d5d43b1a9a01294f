"""`pg-es check` and `pg-es status`: what they say, and with which exit status."""

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.request import Request, urlopen

import psycopg
import pytest
from elasticsearch import Elasticsearch
from psycopg import sql

from pg_es_pipeline.errors import IndexRefused
from pg_es_pipeline.sync import checkpoints, dead_letters
from pg_es_pipeline.sync.checks import database as database_checks
from pg_es_pipeline.sync.checks import rows
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.indices import Indices
from tests.integration.project import Project

LARGE = """
INSERT INTO orders (id, note, updated_at, placed)
SELECT n, repeat('x', 400), now() - interval '1 day', '2024-01-01'
FROM generate_series(1000, 40000) n; ANALYZE orders;
"""


@dataclass
class Role:
    """A role that may connect, and nothing else."""

    name: str
    pg: psycopg.Connection[Any]

    def may(self, *grants: str) -> None:
        for grant in grants:
            self.pg.execute(
                sql.SQL("GRANT {} TO {}").format(sql.SQL(grant), sql.Identifier(self.name))
            )


@pytest.fixture
def reader(project: Project) -> Iterator[Role]:
    """The role that PG_USER names instead of the superuser."""
    name, pg = f"reader_{secrets.token_hex(4)}", project.orders.pg
    identifier = sql.Identifier(name)
    pg.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'reader'").format(identifier))
    pg.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    project.environment |= {"PG_USER": name, "PG_PASSWORD": "reader"}
    try:
        yield Role(name, pg)
    finally:
        pg.execute(sql.SQL("DROP OWNED BY {}").format(identifier))
        pg.execute(sql.SQL("DROP ROLE {}").format(identifier))


EVERYTHING = ("USAGE ON SCHEMA public", "SELECT ON orders", "pg_read_all_stats")


class Front:
    """Stands in front of the node and answers some paths itself, as a node unlike it would."""

    def __init__(self, target: str) -> None:
        answers = self.answers = dict[str, dict[str, Any]]()

        class Handler(BaseHTTPRequestHandler):
            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                path = self.path.partition("?")[0]
                if path in answers:
                    body = json.dumps(answers[path]).encode()
                    self._reply(answers[path].get("status", 200), "application/json", body)
                    return
                headers = {
                    name: value
                    for name in ("content-type", "accept")
                    if (value := self.headers.get(name))
                }
                url = target + self.path
                request = Request(url, body or None, headers, method=self.command)  # noqa: S310
                try:
                    answer = urlopen(request)  # noqa: S310
                except OSError as error:
                    answer = error
                self._reply(answer.status, answer.headers["content-type"], answer.read())

            do_GET = do_POST = do_HEAD = do_PUT = do  # noqa: N815

            def _reply(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("X-elastic-product", "Elasticsearch")
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body if self.command != "HEAD" else b"")

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def front(project: Project) -> Iterator[dict[str, dict[str, Any]]]:
    """The answers of what ES_HOST and ES_PORT name, by path; others are the node's own."""
    environment = project.environment
    made = Front(f"http://{environment['ES_HOST']}:{environment['ES_PORT']}")
    environment["ES_PORT"] = str(made.server.server_port)
    try:
        yield made.answers
    finally:
        made.close()


def physical(project: Project) -> str:
    return f"{project.orders.table.index}-000001"


# Nothing amiss


def test_a_sound_table_gives_no_findings(project: Project) -> None:
    """A new one, and one that is loaded."""
    for _ in range(2):
        result = project.pg_es("check")
        assert result.stdout == "1 table checked: 0 errors, 0 warnings, 0 notes\n"
        assert result.exit_code == 0
        project.orders.sync()


def test_a_sound_large_partitioned_table_gives_no_findings(project: Project) -> None:
    project.orders.pg.execute("CREATE INDEX ON orders (placed, id)")
    project.orders.pg.execute(LARGE)
    project.change(partitions={"by": "month", "column": "placed", "start": "2024-01-01"})
    assert "0 errors, 0 warnings, 0 notes" in project.check()


@pytest.mark.parametrize(
    "entry",
    [
        {"cursor": {"column": "id"}},
        {"partitions": {"by": "range", "column": "id", "width": 2}},
        {"partitions": {"by": "hash", "buckets": 2}},
        {"capture": "snapshot"},
    ],
    ids=["whole numbers", "ranges", "hashes", "snapshot"],
)
def test_every_way_to_load_a_sound_table_gives_no_findings(
    project: Project, entry: dict[str, Any]
) -> None:
    project.change(**entry)
    assert "0 errors, 0 warnings, 0 notes" in project.check()
    assert project.pg_es("status").exit_code == 0


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE VIEW other AS SELECT * FROM orders"],
        [
            "CREATE MATERIALIZED VIEW other AS SELECT * FROM orders",
            "CREATE UNIQUE INDEX ON other (id)",
            "CREATE INDEX ON other (updated_at, id)",
        ],
        [
            "CREATE TABLE other (LIKE orders INCLUDING ALL) PARTITION BY RANGE (id)",
            "CREATE TABLE other_1 PARTITION OF other FOR VALUES FROM (1) TO (100000)",
            "CREATE TRIGGER touch BEFORE UPDATE ON other FOR EACH ROW EXECUTE FUNCTION touch()",
            "INSERT INTO other SELECT * FROM orders",
        ],
    ],
    ids=["view", "materialized view", "partitioned"],
)
def test_every_kind_of_sound_table_gives_no_findings(
    project: Project, statements: list[str]
) -> None:
    project.orders.pg.execute(LARGE)
    for statement in statements:
        project.orders.pg.execute(statement)
    project.orders.pg.execute("ANALYZE")
    project.change(table="public.other", key=["id"])
    assert "0 errors, 0 warnings, 0 notes" in project.check()
    if statements[0].startswith("CREATE TABLE"):
        project.change(partitions={"by": "native"})
        assert "0 errors, 0 warnings, 0 notes" in project.check()


def test_a_role_with_just_the_privileges_it_needs_gives_no_findings(
    project: Project, reader: Role
) -> None:
    reader.may(*EVERYTHING)
    assert "0 errors, 0 warnings, 0 notes" in project.check()


def test_notes_alone_need_no_action(project: Project) -> None:
    project.orders.pg.execute("DROP TRIGGER touch ON orders")
    result = project.pg_es("check")
    assert "0 errors, 0 warnings, 1 note" in result.stdout
    assert result.exit_code == 0


def test_only_the_tables_that_are_named_are_checked(project: Project) -> None:
    project.tables.append({"table": "public.missing"})
    assert project.pg_es("check", "public.orders").exit_code == 0
    assert project.pg_es("check", project.orders.table.index).exit_code == 0
    assert project.pg_es("check", "missing").exit_code == 1


def test_a_transform_that_cannot_be_used_is_an_error_of_its_table(project: Project) -> None:
    project.change(transform="absent_package.transforms:clean")
    result = project.pg_es("check")
    said = " ".join(result.stdout.split())
    assert "transform: the module 'absent_package.transforms' cannot be imported" in said
    assert "The table is not loaded." in said
    assert result.exit_code == 1


# What could not be checked


def test_servers_that_are_away_are_named_all_at_once(
    project: Project, free_port: Callable[[], int]
) -> None:
    project.environment |= {"PG_PORT": str(free_port()), "ES_PORT": str(free_port())}
    for command in ("check", "status"):
        result = project.pg_es(command)
        assert result.exit_code == 2
        assert "PostgreSQL at" in result.stderr
        assert not result.stdout
    assert "Elasticsearch cannot be reached" in project.pg_es("check").stderr


def test_a_missing_setting_is_named(project: Project) -> None:
    project.environment["PG_HOST"] = ""
    for command in ("check", "status"):
        result = project.pg_es(command)
        assert result.exit_code == 2
        assert "PG_HOST is not set" in result.stderr


def test_a_table_that_is_not_in_the_file_is_refused_with_those_that_are(project: Project) -> None:
    for command in ("check", "status"):
        result = project.pg_es(command, "other")
        assert result.exit_code == 2
        assert "no table or index 'other'. Its tables: public.orders" in result.stderr


# PostgreSQL


def test_a_server_that_is_too_old_is_an_error(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_checks, "OLDEST_VERSION", 99)
    result = project.pg_es("check")
    assert "the oldest supported one is 99" in result.stdout
    assert result.exit_code == 1


def test_a_hot_standby_is_noted(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        database_checks, "_ROLE", database_checks._ROLE.replace("pg_is_in_recovery()", "true")
    )
    assert "note PostgreSQL: The server is a hot standby" in project.check()


def test_a_role_that_cannot_see_other_sessions_is_told_the_grant(
    project: Project, reader: Role
) -> None:
    reader.may(*EVERYTHING[:2])
    said = project.check()
    assert "0 errors, 1 warning, 0 notes" in said
    assert f'GRANT pg_read_all_stats TO "{reader.name}";' in said
    project.orders.pg.execute(said.partition("fix: ")[2].splitlines()[0])
    assert "0 errors, 0 warnings, 0 notes" in project.check()


def test_a_transaction_that_stays_open_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_checks, "LONG_TRANSACTION", timedelta(0))
    with project.orders.connect() as writer:
        writer.execute("SELECT 1")
        said = project.check()
        assert "A transaction is open for" in said
        assert f"SELECT pg_terminate_backend({writer.info.backend_pid});" in said


def test_a_transaction_that_stays_prepared_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_checks, "LONG_TRANSACTION", timedelta(0))
    with project.orders.connect() as writer:
        writer.execute("UPDATE orders SET note = 'late' WHERE id = 1")
        writer.execute("PREPARE TRANSACTION 'two phases'")
    assert "ROLLBACK PREPARED 'two phases';" in project.check()


def test_a_clock_that_differs_is_a_warning(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        database_checks, "machine_clock", lambda: datetime.now(UTC) - timedelta(hours=1)
    )
    assert "The server's clock is 1:00:00 ahead of this machine's" in project.check()


# Tables


def test_a_table_that_is_missing_is_an_error(project: Project) -> None:
    project.tables.append({"table": "public.Orders2", "index": "none"})
    result = project.pg_es("check")
    assert "error public.Orders2: no such table or view" in result.stdout
    assert result.exit_code == 1


def test_privileges_that_are_lacking_come_with_their_grants(project: Project, reader: Role) -> None:
    reader.may("pg_read_all_stats")
    said = project.check()
    assert f'GRANT USAGE ON SCHEMA "public" TO "{reader.name}";' in said
    assert f'GRANT SELECT ON "public"."orders" TO "{reader.name}";' in said
    reader.may("USAGE ON SCHEMA public", "SELECT (id, updated_at, deleted_at) ON orders")
    said = project.check()
    assert f'GRANT SELECT ("note", "placed") ON "public"."orders" TO "{reader.name}";' in said
    assert "USAGE" not in said


def test_a_role_that_reads_single_columns_cannot_see_row_versions(
    project: Project, reader: Role
) -> None:
    reader.may(EVERYTHING[0], EVERYTHING[2], "SELECT (id, updated_at, deleted_at) ON orders")
    project.change(exclude=["note", "placed"])
    said = project.check()
    assert "0 errors, 0 warnings, 1 note" in said
    assert "may read single columns alone" in said


def test_a_grant_does_not_show_the_columns_that_are_left_out(
    project: Project, reader: Role
) -> None:
    reader.may("USAGE ON SCHEMA public", "pg_read_all_stats")
    project.change(include=["id"], cursor={"column": "updated_at"})
    said = project.check()
    assert f'GRANT SELECT ("id", "updated_at") ON "public"."orders" TO "{reader.name}";' in said


def test_row_level_security_that_may_hide_rows_is_noticed(project: Project, reader: Role) -> None:
    reader.may(*EVERYTHING)
    project.orders.pg.execute("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    project.orders.pg.execute("CREATE POLICY mine ON orders USING (note = current_user)")
    said = project.check()
    assert "Row-level security applies" in said
    assert "(policies: mine)" in said
    project.orders.pg.execute(
        sql.SQL("ALTER ROLE {} BYPASSRLS").format(sql.Identifier(reader.name))
    )
    assert "0 errors, 0 warnings, 0 notes" in project.check()


def test_no_policy_at_all_hides_every_row(project: Project, reader: Role) -> None:
    reader.may(*EVERYTHING)
    project.orders.pg.execute("ALTER TABLE orders ENABLE ROW LEVEL SECURITY")
    assert "none, which hides every row" in project.check()


def test_a_table_without_a_key_is_an_error(project: Project) -> None:
    project.orders.pg.execute("ALTER TABLE orders DROP CONSTRAINT orders_pkey")
    project.orders.pg.execute("ALTER TABLE orders ALTER id DROP NOT NULL")
    assert "error public.orders: has no primary key" in project.check()


def test_a_key_that_is_not_unique_is_an_error_with_examples(project: Project) -> None:
    project.change(key=["note"])
    said = project.check()
    assert "error public.orders: The key (note) is not unique: new in 3 rows." in said


def test_a_key_without_a_unique_index_comes_with_the_statement(project: Project) -> None:
    project.orders.pg.execute("UPDATE orders SET note = id")
    project.change(key=["note"])
    said = project.check()
    assert "0 errors, 1 warning" in said
    fix = 'CREATE UNIQUE INDEX CONCURRENTLY ON "public"."orders" ("note");'
    assert fix in said
    project.orders.pg.execute(fix)
    assert "unique index" not in project.check()


def test_the_rows_of_children_are_beyond_the_tables_own_unique_index(project: Project) -> None:
    project.orders.pg.execute("CREATE TABLE more () INHERITS (orders)")
    project.change(key=["id"])
    assert "0 errors, 0 warnings, 0 notes" in project.check()
    project.orders.pg.execute("INSERT INTO more (id, note, placed) VALUES (1, 'twice', now())")
    assert "The key (id) is not unique: 1 in 2 rows." in project.check()


def test_a_key_that_is_null_is_an_error_and_one_that_may_be_a_warning(project: Project) -> None:
    project.orders.pg.execute("ALTER TABLE orders ADD number int UNIQUE")
    project.orders.pg.execute("UPDATE orders SET number = id")
    project.change(key=["number"])
    said = project.check()
    assert "warning public.orders: The key (number) may become NULL." in said
    project.orders.pg.execute("UPDATE orders SET number = NULL WHERE id < 3")
    assert "error public.orders: The key (number) is NULL in 2 rows." in project.check()


def test_a_cursor_of_another_type_is_an_error(project: Project) -> None:
    project.change(cursor={"column": "note"})
    assert "error public.orders: the cursor column 'note'" in project.check()


def test_a_cursor_without_time_zone_is_noted(project: Project) -> None:
    project.orders.pg.execute("ALTER TABLE orders ALTER updated_at TYPE timestamp")
    said = project.check()
    assert "0 errors, 0 warnings, 1 note" in said
    assert 'ALTER COLUMN "updated_at" TYPE timestamptz;' in said


def test_a_cursor_that_is_null_is_counted(project: Project) -> None:
    project.orders.pg.execute("ALTER TABLE orders ALTER updated_at DROP NOT NULL")
    assert "note public.orders: The cursor updated_at may become NULL." in project.check()
    project.orders.pg.execute("INSERT INTO orders VALUES (9, '', now(), NULL)")
    said = project.check()
    assert "warning public.orders: The cursor updated_at is NULL in 1 row." in said
    project.orders.pg.execute(said.partition("fix: ")[2].splitlines()[0])
    assert "0 errors, 0 warnings, 0 notes" in project.check()


def test_a_cursor_without_an_index_is_a_warning_once_the_table_is_large(project: Project) -> None:
    project.orders.pg.execute("DROP INDEX orders_updated_at_id_idx")
    fix = 'CREATE INDEX CONCURRENTLY ON "public"."orders" ("updated_at", "id");'
    said = project.check()
    assert "note public.orders: No index begins with the cursor updated_at." in said
    assert fix in said
    project.orders.pg.execute(LARGE)
    assert "warning public.orders: No index begins with the cursor" in project.check()
    project.orders.pg.execute(fix)
    assert "0 errors, 0 warnings, 0 notes" in project.check()


def test_an_index_on_the_cursor_alone_is_noted(project: Project) -> None:
    project.orders.pg.execute("DROP INDEX orders_updated_at_id_idx")
    project.orders.pg.execute("CREATE INDEX ON orders (updated_at)")
    said = project.check()
    assert "0 errors, 0 warnings, 1 note" in said
    assert "No index goes by updated_at, id, the order that changes are read in." in said


def test_a_key_that_is_compared_as_text_needs_no_index_with_the_cursor(project: Project) -> None:
    project.orders.pg.execute("CREATE TYPE colour AS ENUM ('red', 'green', 'blue')")
    project.orders.pg.execute("ALTER TABLE orders ADD colour colour UNIQUE")
    project.orders.pg.execute("UPDATE orders SET colour = (enum_range(NULL::colour))[id]")
    project.orders.pg.execute("ALTER TABLE orders ALTER colour SET NOT NULL")
    project.change(key=["colour"])
    assert "0 errors, 0 warnings, 0 notes" in project.check()


def test_an_index_that_no_query_can_use_does_not_count(project: Project) -> None:
    project.orders.pg.execute("DROP INDEX orders_updated_at_id_idx")
    project.orders.pg.execute("CREATE INDEX ON orders (updated_at, id) WHERE deleted_at IS NULL")
    assert "No index begins with the cursor updated_at." in project.check()


def test_an_index_that_the_planner_leaves_unused_is_a_warning(project: Project) -> None:
    project.orders.pg.execute(LARGE)
    for kind in ("indexscan", "indexonlyscan", "bitmapscan"):
        project.orders.pg.execute(
            sql.SQL("ALTER DATABASE {} SET {} = off").format(
                sql.Identifier(project.orders.database.dbname), sql.SQL(f"enable_{kind}")
            )
        )
    said = project.check()
    assert "0 errors, 1 warning, 0 notes" in said
    assert "PostgreSQL's planner reads all of orders to find the newest changes." in said


def test_a_cursor_that_no_trigger_sets_is_noted(project: Project) -> None:
    project.orders.pg.execute("ALTER TABLE orders DISABLE TRIGGER touch")
    said = project.check()
    assert "note public.orders: No trigger on UPDATE sets the cursor updated_at." in said
    project.orders.pg.execute("DROP TRIGGER touch ON orders")
    project.orders.pg.execute(said.partition("fix: ")[2].splitlines()[0])
    assert "0 errors, 0 warnings, 0 notes" in project.check()


def test_a_table_without_a_cursor_needs_no_index_or_trigger(project: Project) -> None:
    project.orders.pg.execute("DROP INDEX orders_updated_at_id_idx")
    project.orders.pg.execute("DROP TRIGGER touch ON orders")
    project.change(capture="snapshot")
    assert "0 errors, 0 warnings, 0 notes" in project.check()


def test_a_partition_column_without_an_index_is_a_warning_in_a_large_table(
    project: Project,
) -> None:
    project.change(partitions={"by": "month", "column": "placed", "start": "2024-01-01"})
    assert "0 errors, 0 warnings, 0 notes" in project.check()
    project.orders.pg.execute(LARGE)
    said = project.check()
    assert "0 errors, 1 warning, 0 notes" in said
    assert 'CREATE INDEX CONCURRENTLY ON "public"."orders" ("placed", "id");' in said


def test_rows_in_no_partition_are_counted(project: Project) -> None:
    project.orders.pg.execute("ALTER TABLE orders ALTER placed DROP NOT NULL")
    project.orders.pg.execute(
        "INSERT INTO orders (id, note, placed) VALUES (7, '', NULL), (8, '', '2023-12-31'), "
        "(9, '', '2001-01-01'), (10, '', now() + interval '2 months')"
    )
    project.change(partitions={"by": "month", "column": "placed", "start": "2024-01-01"})
    said = project.check()
    assert "0 errors, 2 warnings, 1 note" in said
    assert "The partition column placed is NULL in 1 row." in said
    assert "Outside every partition, by placed: 2 rows." in said
    assert "note public.orders: Beyond the current partition, by placed: 1 row." in said


def test_rows_with_a_value_that_is_not_listed_are_counted(project: Project) -> None:
    project.change(partitions={"by": "list", "column": "note", "values": ["new"]})
    assert "0 errors, 0 warnings, 0 notes" in project.check()
    project.orders.insert(range(4, 6), note="unlisted")
    assert "Outside every partition, by note: 2 rows." in project.check()


def test_counting_gives_up_in_time_and_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.orders.pg.execute(
        "CREATE VIEW slow AS SELECT id, updated_at, pg_sleep(600)::text AS slept FROM orders"
    )
    project.change(table="public.slow", key=["id"], cursor={"column": "updated_at"})
    monkeypatch.setattr(rows, "STATEMENT_TIMEOUT", 100)
    said = project.check()
    assert "Not counted, for want of time (0.1 s): the rows with NULLs" in said
    assert "Not counted, for want of time (0.1 s): the keys (id)" in said


# Elasticsearch


def version(number: str) -> dict[str, Any]:
    return {"version": {"number": number}, "tagline": "You Know, for Search"}


def test_a_cluster_of_another_version_is_named(
    project: Project, front: dict[str, dict[str, Any]]
) -> None:
    front["/"] = version("7.17.0")
    assert "error Elasticsearch: The cluster's version is 7.17.0." in project.check()
    front["/"] = version("9.1.0")
    assert "note Elasticsearch: The cluster's version is 9.1.0." in project.check()


def test_privileges_that_elasticsearch_lacks_come_with_a_role(
    project: Project, front: dict[str, dict[str, Any]]
) -> None:
    index = project.orders.table.index
    held = {"manage": True, "read": True, "write": True}
    front["/_security/user/_has_privileges"] = {
        "username": "loader",
        "cluster": {"monitor": True},
        "index": {index: held},
    }
    assert "0 errors, 0 warnings, 0 notes" in project.check()
    front["/_security/user/_has_privileges"] = {
        "username": "loader",
        "cluster": {"monitor": False},
        "index": {index: held | {"write": False}},
    }
    said = project.check()
    assert f"loader lacks privileges: write on {index}; monitor on the cluster." in said
    role = json.loads(said.partition("PUT _security/role/pg_es_pipeline ")[2].splitlines()[0])
    assert index in role["indices"][0]["names"]


def test_a_user_without_any_privilege_on_our_indices_is_told_so(
    project: Project, front: dict[str, dict[str, Any]]
) -> None:
    """The refusals that follow from it do not keep the check from saying why."""
    index, refusal = (
        project.orders.table.index,
        {"error": {"reason": "unauthorized"}, "status": 403},
    )
    front["/_security/user/_has_privileges"] = {
        "username": "nobody",
        "cluster": {"monitor": True},
        "index": {"pg-es-*": {"manage": False, "read": False, "write": False}},
    }
    for path in ("/", "/pg-es-checkpoints", "/_cluster/health", f"/{index}", "/_cluster/settings"):
        front[path] = refusal
    result = project.pg_es("check")
    assert "nobody lacks privileges: manage, read, write on pg-es-*." in result.stdout
    assert f"looking up the index {index}: Elasticsearch refuses" in result.stdout
    assert result.exit_code == 1


def test_wrong_credentials_are_no_finding(
    project: Project, front: dict[str, dict[str, Any]]
) -> None:
    front["/pg-es-checkpoints"] = {"error": {"reason": "unknown user"}, "status": 401}
    result = project.pg_es("check")
    assert result.exit_code == 2
    assert "Elasticsearch refuses these credentials" in result.stderr


def test_a_full_disk_is_named_before_and_after_indices_become_read_only(
    project: Project, front: dict[str, dict[str, Any]]
) -> None:
    disk = "cluster.routing.allocation.disk"
    watermarks = {
        f"{disk}.threshold_enabled": "true",
        f"{disk}.watermark.high": "90%",
        f"{disk}.watermark.high.max_headroom": "10gb",
        f"{disk}.watermark.flood_stage": "1gb",
    }
    front["/_cluster/settings"] = {"defaults": watermarks}

    def free(gigabytes: int) -> None:
        total = {"total_in_bytes": 1000 << 30, "available_in_bytes": (gigabytes << 30) // 2}
        front["/_nodes/stats/fs"] = {"nodes": {"a": {"name": "one", "fs": {"total": total}}}}

    free(21)
    assert "0 errors, 0 warnings, 0 notes" in project.check()
    free(19)
    assert "warning Elasticsearch: The disk of the node one is past the high" in project.check()
    free(1)
    assert "error Elasticsearch: The disk of the node one is past the flood" in project.check()


def test_an_index_without_its_shard_is_an_error(project: Project, es: Elasticsearch) -> None:
    with project.orders.engine() as engine:
        mappings = Document(engine.source(project.orders.table)).mappings()
    es.indices.create(
        index=physical(project),
        mappings=mappings,
        aliases={project.orders.table.index: {}},
        settings={"index.routing.allocation.require._name": "nowhere"},
        wait_for_active_shards=0,
    )
    said = project.check()
    assert f"The cluster's health is red: {physical(project)} lacks a primary shard." in said


def test_an_index_of_others_without_its_shard_is_noted(
    project: Project, es: Elasticsearch, prefix: str
) -> None:
    settings = {"index.routing.allocation.require._name": "nowhere"}
    es.indices.create(index=f"{prefix}other", settings=settings, wait_for_active_shards=0)
    said = project.check()
    assert "0 errors, 0 warnings, 1 note" in said
    assert f"red, by indices of others: {prefix}other." in said


def test_a_name_that_belongs_to_another_index_is_an_error(
    project: Project, es: Elasticsearch
) -> None:
    es.indices.create(index=project.orders.table.index)
    assert "there is an index of that name already" in project.check()


def test_fields_with_another_mapping_are_named_one_by_one(project: Project) -> None:
    project.orders.sync()
    project.change(
        fields={
            "note": {"type": "keyword"},
            "placed": {"type": "date", "index": False},
        }
    )
    said = project.check()
    assert "0 errors, 0 warnings, 1 note" in said
    assert f"The rows do not fit into {physical(project)} any more" in said
    assert "note: type is text, not keyword; placed: index is true, not false" in said
    project.change(reindex="manual")
    said = project.check()
    assert "0 errors, 1 warning, 0 notes" in said
    assert f"fix: pg-es reindex {project.orders.table.index}" in said


def test_what_can_change_in_place_is_no_conflict(project: Project) -> None:
    project.orders.sync()
    shorter = {"type": "keyword", "ignore_above": 100}
    project.change(fields={"note": {"type": "text", "fields": {"raw": shorter}}})
    assert "0 errors, 0 warnings, 0 notes" in project.check()
    project.orders.sync()


def test_a_column_that_is_new_is_no_conflict(project: Project) -> None:
    project.orders.sync()
    project.orders.pg.execute("ALTER TABLE orders ADD extra int")
    assert "0 errors, 0 warnings, 0 notes" in project.check()


@pytest.mark.parametrize("block", ["read_only_allow_delete", "read_only", "write"])
def test_an_index_that_takes_no_documents_is_an_error(
    project: Project, es: Elasticsearch, block: str
) -> None:
    project.orders.sync()
    es.indices.put_settings(index=physical(project), settings={f"index.blocks.{block}": True})
    try:
        said = project.check()
    finally:
        es.indices.put_settings(index=physical(project), settings={f"index.blocks.{block}": None})
    assert f'PUT {physical(project)}/_settings {{"index.blocks.{block}": null}}' in said
    assert "1 error," in said


def alter_checkpoint(project: Project, **values: Any) -> None:
    """Changes what a load has stored."""
    es = project.orders.es
    uuid = es.indices.get_settings(index=physical(project), flat_settings=True)[physical(project)]
    es.update(
        index=checkpoints.INDEX,
        id=f"{uuid['settings']['index.uuid']}:all",
        doc=values,
        refresh=True,
    )


def test_a_clock_behind_a_checkpoint_is_a_warning(project: Project) -> None:
    project.orders.sync()
    alter_checkpoint(project, horizon="2096-01-01 00:00:00+00")
    said = project.check()
    assert "0 errors, 1 warning, 0 notes" in said
    assert "is behind the checkpoints of all (2096-01-01 00:00:00 UTC)" in said


def test_a_checkpoint_of_another_database_is_noted(project: Project) -> None:
    project.orders.sync()
    alter_checkpoint(project, origin="1:1:1")
    said = project.check()
    assert "0 errors, 0 warnings, 1 note" in said
    assert "speak of another database" in said


def load_with_refusals(project: Project, *partitions: str) -> None:
    """Loads the table under a mapping that refuses the rows whose note is no date."""
    project.change(fields={"note": {"type": "date", "format": "year"}})
    for partition in partitions or ("all",):
        project.orders.sync(partition)
    project.orders.es.indices.refresh(index=dead_letters.INDEX)


def test_dead_letters_are_counted(project: Project) -> None:
    project.orders.pg.execute("UPDATE orders SET note = '2024' WHERE id = 3")
    load_with_refusals(project)
    said = project.check()
    assert "0 errors, 1 warning, 0 notes" in said
    assert "Rows that Elasticsearch refused: 2." in said
    assert f"pg-es retry {project.orders.table.index}" in said


def test_dead_letters_up_to_their_limit_are_an_error(project: Project) -> None:
    project.change(max_dead_letters=3)
    load_with_refusals(project)
    assert "One more fails every run (max_dead_letters: 3)." in project.check()


# Status


def status(project: Project) -> dict[str, Any]:
    """The one table of `pg-es status --json`."""
    result = project.pg_es("status", "--json")
    assert result.exit_code == 0
    [table] = json.loads(result.stdout)["tables"]
    assert set(table) == {
        *("index", "table", "generation", "next_generation", "differences", "error"),
        *("rows_estimate", "documents", "size_bytes"),
        *("dead_letters", "in_step_at", "partitions"),
    }
    for partition in table["partitions"]:
        assert set(partition) == {
            *("partition", "state", "rows_waiting", "watermark", "lag_seconds", "documents"),
            *("dead_letters", "updated_at"),
        }
    return dict(table)


def states(project: Project) -> dict[str, str]:
    return {one["partition"]: one["state"] for one in status(project)["partitions"]}


def test_a_table_that_was_never_loaded_says_so(project: Project) -> None:
    table = status(project)
    assert table["generation"] is table["documents"] is table["in_step_at"] is None
    [partition] = table["partitions"]
    assert partition["state"] == "never_loaded"
    assert partition["rows_waiting"] is partition["watermark"] is partition["lag_seconds"] is None


def test_a_table_in_step_shows_its_totals(project: Project) -> None:
    project.orders.sync()
    with project.orders.engine() as engine:
        _stale, moment = engine.stale(engine.source(project.orders.table))
        engine.record_in_step({project.orders.table.index: moment})
    table = status(project)
    assert table["generation"] == physical(project)
    assert table["error"] is None
    assert table["documents"] == 3
    assert table["size_bytes"] > 0
    assert table["rows_estimate"] > 0
    assert datetime.fromisoformat(table["in_step_at"]) == datetime.fromisoformat(moment)
    [partition] = table["partitions"]
    assert partition["state"] == "in_step"
    assert partition["rows_waiting"] == 0
    assert partition["documents"] == 3
    assert partition["lag_seconds"] > 0
    assert len(partition["watermark"]) == 1
    assert datetime.fromisoformat(partition["updated_at"]) <= datetime.now(UTC)


def test_changes_that_wait_are_counted(project: Project) -> None:
    project.orders.sync()
    project.orders.pg.execute("UPDATE orders SET note = 'changed' WHERE id < 3")
    [partition] = status(project)["partitions"]
    assert (partition["state"], partition["rows_waiting"]) == ("changes_waiting", 2)


def test_another_document_waits_for_a_full_pass(project: Project) -> None:
    project.orders.sync()
    project.orders.pg.execute("ALTER TABLE orders ADD extra int")
    assert states(project) == {"all": "full_pass_waiting"}


def test_a_full_pass_is_loading_until_its_checkpoint_is_old(project: Project) -> None:
    project.orders.sync()
    begun = {"limit": "2024-01-01 00:00:00+00", "mark": None, "after": ["1"]}
    alter_checkpoint(project, full_pass=begun)
    assert states(project) == {"all": "loading"}
    alter_checkpoint(project, updated_at="2024-01-01T00:00:00+00:00")
    assert states(project) == {"all": "interrupted"}
    assert "full pass interrupted" in project.pg_es("status").stdout


def test_documents_and_dead_letters_are_counted_by_partition(project: Project) -> None:
    project.change(
        partitions={"by": "month", "column": "placed", "start": "2024-01-01", "end": "2024-04-01"}
    )
    project.orders.insert(range(31, 59), note="2024")
    project.orders.insert(range(59, 62), note="no year")
    load_with_refusals(project, "2024-01", "2024-02")
    table = status(project)
    assert table["dead_letters"] == 4
    found = {
        one["partition"]: (one["state"], one["documents"], one["dead_letters"])
        for one in table["partitions"]
    }
    assert found == {
        "2024-01": ("in_step", 0, 3),
        "2024-02": ("in_step", 28, 1),
        "2024-03": ("never_loaded", 0, 0),
    }


def test_a_table_that_will_not_do_shows_beside_those_that_do(project: Project) -> None:
    project.tables.append({"table": "public.missing"})
    result = project.pg_es("status", "--json")
    assert result.exit_code == 1
    fine, missing = json.loads(result.stdout)["tables"]
    assert fine["partitions"]
    assert "no such table or view" in missing["error"]
    assert missing["partitions"] == []
    plain = project.pg_es("status")
    assert plain.exit_code == 1
    assert "public.missing: no such table or view" in plain.stdout


def test_status_is_a_line_each_with_tabs_where_it_is_not_a_terminal(project: Project) -> None:
    project.orders.sync()
    lines = [line.split("\t") for line in project.pg_es("status").stdout.splitlines()]
    index = project.orders.table.index
    assert lines[0][:4] == ["index", "partition", "state", "watermark"]
    assert lines[1][:3] == [index, "all", "in step"]
    assert lines[4][:4] == [index, "public.orders", lines[4][2], "3"]


@pytest.mark.parametrize(("capture", "lags"), [("cursor", False), ("snapshot", True)])
def test_an_index_in_step_lags_only_where_no_cursor_shows_that_nothing_changed(
    project: Project, capture: str, lags: bool
) -> None:
    project.change(capture=capture)
    project.orders.sync()
    alter_checkpoint(project, horizon="2020-01-01 00:00:00+00")
    [partition] = status(project)["partitions"]
    assert partition["state"] == "in_step"
    assert (partition["lag_seconds"] > timedelta(days=365).total_seconds()) is lags


# pg-es reindex, pg-es rollback


def test_a_table_is_loaded_beside_its_index_and_gone_back_from(project: Project) -> None:
    project.orders.sync()
    index = project.orders.table.index
    project.change(fields={"note": {"type": "keyword"}})
    assert f"{index}: does not fit into {index}-000001: note:" in project.pg_es("status").stdout
    done = project.pg_es("reindex", index)
    assert done.exit_code == 0
    assert f"3 rows loaded into {index}-000002; of 3 compared, 0 differed" in done.stdout
    assert f"{index} points at {index}-000002 now, no longer at {index}-000001" in done.stdout
    assert "0 errors, 0 warnings, 0 notes" in project.check()

    done = project.pg_es("rollback", index)
    assert done.exit_code == 0
    assert f"{index} points at {index}-000001 now, no longer at {index}-000002" in done.stdout
    said = project.check()
    assert f"fix: pg-es reindex {index}" in said, "it was tried, and is not tried by itself again"


def test_a_rollback_without_a_generation_before_is_refused(project: Project) -> None:
    project.orders.sync()
    done = project.pg_es("rollback", project.orders.table.index, "--now")
    assert done.exit_code == 2
    assert "there is no generation before" in done.stderr


def test_an_unfinished_reindex_is_shown_and_can_be_abandoned(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.orders.sync()
    index = project.orders.table.index
    monkeypatch.setattr(Indices, "switch", refuse_the_switch)
    assert project.pg_es("reindex", index).exit_code == 2
    assert f"{index}: {index}-000002 is being loaded beside it" in project.pg_es("status").stdout
    [status] = json.loads(project.pg_es("status", "--json").stdout)["tables"]
    assert status["next_generation"] == f"{index}-000002"
    assert f"{index}-000002 is removed" in project.pg_es("reindex", index, "--abandon").stdout
    assert "no unfinished generation" in project.pg_es("reindex", index, "--abandon").stdout


def refuse_the_switch(*_: Any, **__: Any) -> None:
    raise IndexRefused("not now")
