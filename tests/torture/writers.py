"""Writers: threads that change the tables in every way that an application may."""

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from tests.torture.schema import Column, TortureTable, names

Connect = Callable[[], psycopg.Connection[Any]]


class Writers:
    """Some writers, and one whose transactions stay open across many loads."""

    def __init__(
        self, seed: str, connect: Connect, tables: Sequence[TortureTable], count: int
    ) -> None:
        self._over = threading.Event()
        self.done: Counter[str] = Counter()
        """Statements and transactions by kind."""
        self._connect = connect
        # Many prepared transactions that end soon, or few that stay open across several loads.
        self.prepares, self.ends_prepared = random.Random(seed).choice([(0.1, 0.3), (0.03, 0.02)])
        self._writers = [
            Writer(f"{seed} writer {number}", self, tables, patient=number == 0)
            for number in range(count + 1)
        ]

    def start(self) -> None:
        for writer in self._writers:
            writer.start()

    def stop(self) -> None:
        """Ends the open transactions, each as it likes, and the prepared ones."""
        self.end()
        for writer in self._writers:
            writer.join(60)
            if writer.is_alive():
                raise TimeoutError("a writer did not end within a minute")
        for writer in self._writers:
            if writer.failure:
                raise writer.failure
        with self._connect() as connection:
            end_prepared(connection, random.Random(0))

    def end(self) -> None:
        """Starts nothing any more."""
        self._over.set()

    @property
    def stopped(self) -> bool:
        return self._over.is_set()

    def pause(self, seconds: float) -> None:
        """Waits, no longer than the writers go on."""
        self._over.wait(seconds)

    def connect(self) -> psycopg.Connection[Any]:
        return self._connect()


class Writer(threading.Thread):
    """One session after the other, each cut off by what happens to the server."""

    def __init__(
        self, seed: str, writers: Writers, tables: Sequence[TortureTable], *, patient: bool
    ) -> None:
        super().__init__(name=seed, daemon=True)
        self.failure: BaseException | None = None
        self._random = random.Random(seed)
        self._writers = writers
        self._tables = tables
        self._patient = patient

    def run(self) -> None:
        try:
            while not self._writers.stopped:
                # Restarts and terminated sessions are what it is for.
                with (
                    contextlib.suppress(psycopg.OperationalError, psycopg.InterfaceError),
                    self._writers.connect() as connection,
                ):
                    self._write(connection)
                self._writers.pause(0.1)
        except BaseException as failure:
            self.failure = failure

    def _write(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute("SET lock_timeout = '300ms'")
        connection.commit()
        while not self._writers.stopped:
            try:
                self._transaction(connection)
            except (psycopg.IntegrityError, psycopg.errors.LockNotAvailable):
                self._writers.done["aborted"] += 1
                connection.rollback()
            except psycopg.errors.DeadlockDetected:
                self._writers.done["deadlock"] += 1
                connection.rollback()
            self._writers.pause(self._random.uniform(0, 0.15))

    def _transaction(self, connection: psycopg.Connection[Any]) -> None:
        chance, done = self._random, self._writers.done
        statements = chance.randint(1, 8 if self._patient else 4)
        longest = 1.2 if self._patient else chance.choice([0.0, 0.0, 0.05, 0.5])
        for number in range(statements):
            if number:
                self._writers.pause(chance.uniform(longest / 2, longest))
            if chance.random() < 0.2:
                connection.execute("SAVEPOINT before")
                self._statement(connection)
                if chance.random() < 0.6:
                    connection.execute("ROLLBACK TO SAVEPOINT before")
                    done["rolled back to savepoint"] += 1
                else:
                    connection.execute("RELEASE SAVEPOINT before")
            else:
                self._statement(connection)
        prepares = self._writers.prepares
        match chance.choices(["commit", "rollback", "prepare"], [0.85 - prepares, 0.15, prepares]):
            case ["commit"]:
                connection.commit()
            case ["rollback"]:
                connection.rollback()
                done["rolled back"] += 1
            case ["prepare"]:
                prepare(connection, chance)
                done["prepared"] += 1
        if chance.random() < self._writers.ends_prepared:
            end_prepared(connection, chance, leave=0.5)

    def _statement(self, connection: psycopg.Connection[Any]) -> None:
        table = self._random.choice(self._tables)
        kind, statement = draw_statement(self._random, table)
        rows = connection.execute(statement).rowcount
        self._writers.done[kind] += rows


def prepare(connection: psycopg.Connection[Any], chance: random.Random) -> None:
    """PREPARE TRANSACTION, unless enough are: their number is limited, and they hold locks."""
    row = connection.execute("SELECT count(*) FROM pg_prepared_xacts").fetchone()
    if row and row[0] > 3:
        connection.commit()
        return
    name = sql.Literal(f"torture {chance.getrandbits(64)}")
    connection.execute(sql.SQL("PREPARE TRANSACTION {}").format(name))
    connection.commit()


def end_prepared(
    connection: psycopg.Connection[Any], chance: random.Random, leave: float = 0.0
) -> None:
    """Commits or rolls back the prepared transactions, and leaves a share of them open."""
    connection.commit()
    connection.autocommit = True
    names = connection.execute(
        "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
    ).fetchall()
    for (name,) in names:
        if chance.random() >= leave:
            how = chance.choice(["COMMIT", "COMMIT", "ROLLBACK"])
            # Another writer may be faster.
            with contextlib.suppress(
                psycopg.errors.UndefinedObject, psycopg.errors.ObjectNotInPrerequisiteState
            ):
                connection.execute(sql.SQL(how + " PREPARED {}").format(sql.Literal(name)))
    connection.autocommit = False


def fill(connection: psycopg.Connection[Any], chance: random.Random, table: TortureTable) -> None:
    """Rows that are old when the first load begins."""
    for _ in range(chance.randint(1, 8)):
        age = sql.SQL("now() - interval '1 s' * {}").format(sql.Literal(chance.randrange(10**6)))
        connection.execute(insert(chance, table, 100, cursor=age))
    connection.commit()


def draw_statement(chance: random.Random, table: TortureTable) -> tuple[str, sql.Composed]:
    """A statement that changes some rows, and its kind."""
    if table.append_only:
        return "inserted", insert(chance, table, chance.choice([1, 3, 20, 80]))
    kinds: dict[str, tuple[int, Callable[[], sql.Composed]]] = {
        "inserted": (6, lambda: insert(chance, table, chance.choice([1, 3, 20, 80]))),
        "updated": (6, lambda: _update(chance, table, _new_values(chance, table))),
    }
    if (cursor := table.cursor) is not None:
        by_hand = _by_hand(chance, back=table.cursors_go_back)
        kinds["cursor set"] = (1, lambda: _update(chance, table, [(cursor, by_hand)]))
    if (column := table.soft_delete) is not None:
        deleted, present = (
            ("true", chance.choice(["false", "NULL"]))
            if column.type == "boolean"
            else ("now()", "NULL")
        )
        kinds["soft-deleted"] = (3, lambda: _update(chance, table, [(column, sql.SQL(deleted))]))
        kinds["undeleted"] = (1, lambda: _update(chance, table, [(column, sql.SQL(present))]))
    if (partition := table.partition) is not None:
        value = sql.Literal(partition.draw(chance))
        kinds["moved"] = (3, lambda: _update(chance, table, [(partition, value)]))
    if table.hidden:
        kinds["deleted"] = (2, lambda: _delete(chance, table))
        kinds["key changed"] = (2, lambda: _rekey(chance, table))
    weights = [weight for weight, _ in kinds.values()]
    [kind] = chance.choices(list(kinds), weights)
    return kind, kinds[kind][1]()


def insert(
    chance: random.Random, table: TortureTable, count: int, cursor: sql.Composable | None = None
) -> sql.Composed:
    """New rows; one whose key is there already changes that row, deleted or not."""
    rows: dict[Any, sql.Composable] = {}
    for _ in range(count):
        drawn = {column: column.draw(chance) for column in table.columns}
        if cursor and table.cursor and not table.append_only:
            drawn[table.cursor] = cursor
        cells = (
            value if isinstance(value, sql.Composable) else sql.Literal(value)
            for value in drawn.values()
        )
        key = len(rows) if table.append_only else tuple(drawn[column] for column in table.key)
        rows[key] = sql.SQL("({})").format(sql.SQL(", ").join(cells))
    taken = [column for column in table.columns if column not in (*table.key, table.cursor)]
    return sql.SQL("INSERT INTO {} ({}) VALUES {} ON CONFLICT ({}) DO UPDATE SET {}").format(
        table.relation,
        names(table.columns),
        sql.SQL(", ").join(rows.values()),
        names(table.key),
        sql.SQL(", ").join(
            sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(column.name)) for column in taken
        ),
    )


def _new_values(chance: random.Random, table: TortureTable) -> list[tuple[Column, sql.Composable]]:
    fixed = {*table.key, table.cursor, table.soft_delete, table.partition}
    free = [column for column in table.columns if column not in fixed]
    chosen = chance.sample(free, chance.randint(1, len(free)))
    return [(column, sql.Literal(column.draw(chance))) for column in chosen]


def _by_hand(chance: random.Random, *, back: bool) -> sql.Composable:
    """A cursor from before its transaction began, `back`, is seen by a reconcile alone."""
    ahead = ["now()", "clock_timestamp()", "now() + interval '3 s'", "now() + interval '2 days'"]
    past = ["now() - interval '3 h'"] * 3 if back else []
    return sql.SQL(chance.choice([*ahead, "'infinity'", *past]))


def _update(
    chance: random.Random,
    table: TortureTable,
    changes: Sequence[tuple[Column, sql.Composable]],
) -> sql.Composed:
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(column.name), value) for column, value in changes
    )
    return sql.SQL("UPDATE {} SET {} WHERE {}").format(
        table.relation, assignments, _some_rows(chance, table, chance.choice([1, 10, 200]))
    )


def _delete(chance: random.Random, table: TortureTable) -> sql.Composed:
    rows = _some_rows(chance, table, chance.choice([1, 10, 500]))
    return sql.SQL("DELETE FROM {} WHERE {}").format(table.relation, rows)


def _rekey(chance: random.Random, table: TortureTable) -> sql.Composed:
    column = table.key[0]
    changed = {
        "bigint": "{} + {}",
        "integer": "{} + {}",
        "date": "{} + {}",
        "text": "{} || {}::text",
        "uuid": "gen_random_uuid()",
    }[column.type]
    value = sql.SQL(changed).format(
        sql.Identifier(column.name), sql.Literal(chance.randrange(1, 40_000))
    )
    return _update(chance, table, [(column, value)])


def _some_rows(chance: random.Random, table: TortureTable, limit: int) -> sql.Composed:
    """Up to `limit` rows from somewhere in the table that nobody else is writing to."""
    keys = names(table.key)
    start = sql.Literal(chance.randrange(-(2**31), 2**31))
    return sql.SQL(
        "({keys}) IN (SELECT {keys} FROM {table} WHERE hashtext(ROW({keys})::text) >= {start} "
        "ORDER BY hashtext(ROW({keys})::text) LIMIT {limit} FOR UPDATE SKIP LOCKED)"
    ).format(keys=keys, table=table.relation, start=start, limit=sql.Literal(limit))
