"""One seed: writers, loaders and chaos at once, then both sides are compared."""

import json
import random
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from dev.stack.processes import wait_until
from pg_es_pipeline.settings import BatchingSettings, ElasticsearchSettings, PostgresSettings
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.tables import Table
from tests.torture import oracle
from tests.torture.chaos import Chaos, Loaders
from tests.torture.proxy import KINDS, Faults, Proxy
from tests.torture.schema import TortureTable, draw_tables
from tests.torture.servers import Servers
from tests.torture.writers import Writers, fill

WRITING_SECONDS = 8.0
"""A few times the margin by which the engine's horizon stays behind the clock."""

ENOUGH_EVENTS, LONGEST_SECONDS = 25, 25.0
"""On a slow machine it goes on until the loaders have done so much, or failed, within reason."""

LATE_SECONDS = 1.1, 20.0
"""Past the patience of a loader's requests (loader.SHORTER); the last ones come at the very end."""

ROUNDS = 6
"""Looks for changes until everything has to be in step, once nobody writes any more."""


@dataclass
class Result:
    """What came of one seed."""

    seed: int
    seconds: float = 0.0
    rows: int = 0
    loads: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """Of loaders, by kind."""
    chaos: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    wrong: list[oracle.Wrong] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What else must not happen."""

    @property
    def failed(self) -> bool:
        return bool(self.wrong or self.problems)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.seconds:.1f} s, {self.rows} rows, "
            f"{sum(self.writes.values())} changes, {self.loads} loads, "
            f"{sum(self.errors.values())} failed, chaos {_counts(self.chaos)}, "
            f"faults {self.faults.total()}, wrong {len(self.wrong)}"
        )

    def details(self, most: int = 5) -> list[str]:
        """Lines that say what is wrong."""
        more = len(self.wrong) - most
        return [
            *map(str, self.wrong[:most]),
            *([f"and {more} more"] if more > 0 else []),
            *list(dict.fromkeys(self.problems))[:most],
        ]


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"


def run(seed: int, servers: Servers) -> Result:
    """Runs a seed in a database and indices of its own, and removes them."""
    started = time.monotonic()
    result = Result(seed)
    try:
        with Scenario(seed, servers, result) as scenario:
            scenario.write_and_load()
            scenario.finish()
            scenario.compare()
    except Exception:
        result.problems.append(traceback.format_exc())
    result.seconds = time.monotonic() - started
    return result


class Scenario(ExitStack):
    """The database, the indices and the proxy of one seed."""

    def __init__(self, seed: int, servers: Servers, result: Result) -> None:
        super().__init__()
        self._seed, self._servers, self._result = seed, servers, result
        self._random = random.Random(f"{seed} scenario")
        self._database = f"torture_{seed}"
        self._prefix = f"torture-{seed}-"
        self._zone = self._random.choice(["UTC", "America/New_York", "Asia/Kolkata"])
        # One that may not see what other sessions do has to rely on the lookback.
        self._account = (
            {"PG_USER": self._database, "PG_PASSWORD": "torture"}
            if self._random.random() < 0.15
            else {}
        )
        self._tables = draw_tables(random.Random(f"{seed} schema"), self._prefix)

    def __enter__(self) -> "Scenario":
        super().__enter__()
        self.callback(self._remove)
        self._folder = Path(tempfile.mkdtemp(prefix="pg-es-torture-"))
        self.callback(shutil.rmtree, self._folder)
        self._create()
        share = self._random.choice([0.02, 0.05, 0.12])
        weights = [self._random.random() for _ in KINDS]
        shares = {
            kind: share * weight / sum(weights) for kind, weight in zip(KINDS, weights, strict=True)
        }
        self._faults = Faults(random.Random(f"{self._seed} faults"), shares, LATE_SECONDS)
        self._proxy = self.enter_context(Proxy(self._servers.elasticsearch, self._faults))
        return self

    def write_and_load(self) -> None:
        """Everything at once, until the writers have had their time."""
        with self._connect() as connection:
            for table in self._tables:
                fill(connection, random.Random(f"{self._seed} {table.name}"), table)
        plan = self._folder / "plan.json"
        plan.write_text(json.dumps([table.entry for table in self._tables], default=str))
        environment = {
            **self._servers.variables,
            **self._account,
            "PG_DATABASE": self._database,
            "ES_PORT": str(self._proxy.port),
        }
        loaders = Loaders(
            environment, plan, f"{self._seed}", self._random.choice([2, 3]), self._folder / "log"
        )
        self.callback(loaders.stop)
        writers = Writers(f"{self._seed}", self._connect, self._tables, self._random.randint(2, 4))
        indices = [table.index for table in self._tables]
        chaos = Chaos(
            f"{self._seed} chaos", self._servers, loaders, self._database, indices, self._faults
        )
        wait_until(lambda: bool(loaders.events()), LONGEST_SECONDS)
        self.callback(writers.end)
        writers.start()
        self.callback(chaos.end)
        chaos.start()
        writers.pause(WRITING_SECONDS)
        wait_until(
            lambda: len(loaders.events()) >= ENOUGH_EVENTS, LONGEST_SECONDS - WRITING_SECONDS
        )
        chaos.stop()
        writers.stop()
        loaders.stop()
        self._result.chaos, self._result.writes = chaos.done, writers.done
        self._judge(loaders, index_deleted=bool(chaos.done["delete an index"]))

    def _judge(self, loaders: Loaders, *, index_deleted: bool) -> None:
        """A loader may fail in ways that pass, and say so; anything else is a finding."""
        result = self._result
        for event in loaders.events():
            match event["done"]:
                case "load":
                    result.loads += 1
                case "error":
                    result.errors[event["kind"]] += 1
                    healed = index_deleted and event["kind"] == "IndexRefused"
                    if not event["passing"] and not healed:
                        what = f"{event['what']}: {event['kind']}"
                        result.problems.append(f"{what}: {event['error']}")
                case "crash":
                    result.problems.append(f"{event['what']}: {event['error']}")
        if words := loaders.last_words().strip():
            result.problems.append(f"a loader broke down: {words[-1500:]}")

    def finish(self) -> None:
        """Brings all tables in step: in few rounds, since nobody writes any more.

        Requests that are still late come when loads have done all they can. Against one that brings
        back a row deleted for good there is no version: that is left to the comparison after it.
        """
        self._faults.calm()
        self._result.faults = self._faults.injected
        self._wait_for_sessions()
        with self._engine() as engine:
            for table in self._tables:
                if not table.hidden:
                    self._bring_in_step(engine, table)
            anything_late = self._proxy.release()
            for table in self._tables:
                if table.hidden:
                    self._bring_in_step(engine, table)
                if anything_late and table.cursor is None:
                    # As happens once an hour, whatever PostgreSQL has counted.
                    source = engine.source(Table.model_validate(table.entry))
                    for partition in engine.partitions(source):
                        engine.sync(source, partition)
                if table.needs_reconcile:
                    engine.reconcile(engine.source(Table.model_validate(table.entry)))
            engine.refresh()

    def _bring_in_step(self, engine: Engine, table: TortureTable) -> None:
        source = engine.source(Table.model_validate(table.entry))
        for _ in range(ROUNDS):
            stale, _moment = engine.stale(source)
            if not stale:
                return
            for one in stale:
                engine.sync(source, one.partition)
        self._result.problems.append(f"{table.index}: still stale after {ROUNDS} rounds: {stale}")

    def _wait_for_sessions(self) -> None:
        """A session that ends hands in its counts of changes, by which a table without a cursor is
        known to be stale."""
        with self._servers.connect("postgres", autocommit=True) as server:
            query = "SELECT FROM pg_stat_activity WHERE datname = %s"
            ended = wait_until(lambda: not server.execute(query, [self._database]).rowcount, 30)
        assert ended, "a session of the seed did not end within half a minute"

    def compare(self) -> None:
        """Holds both sides against each other."""
        index = oracle.Index(*self._servers.elasticsearch())
        self.callback(index.close)
        with self._connect() as connection:
            for table in self._tables:
                rows, wrong = oracle.compare(connection, index, table)
                self._result.rows += rows
                self._result.wrong += wrong
        indices = {table.index for table in self._tables}
        for name in index.strays(self._prefix, indices):
            self._result.problems.append(f"{name}: an index that nobody asked for")
        for letter in index.dead_letters(self._prefix):
            self._result.problems.append(f"a dead letter is left: {letter}")

    def _connect(self) -> psycopg.Connection[Any]:
        return self._servers.connect(self._database)

    def _engine(self) -> Engine:
        variables = {**self._servers.variables, **self._account}
        return Engine(
            PostgresSettings(
                host=variables["PG_HOST"],
                port=variables["PG_PORT"],
                database=self._database,
                user=variables["PG_USER"],
                password=variables["PG_PASSWORD"],
            ),
            ElasticsearchSettings(host=variables["ES_HOST"], port=variables["ES_PORT"]),
            BatchingSettings(),
        )

    def _create(self) -> None:
        name = sql.Identifier(self._database)
        self._remove()
        with self._servers.connect("postgres", autocommit=True) as server:
            server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
            server.execute(
                sql.SQL("ALTER DATABASE {} SET timezone = {}").format(name, sql.Literal(self._zone))
            )
            server.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'torture' IN ROLE pg_read_all_data").format(
                    name
                )
            )
        with self._connect() as connection:
            for table in self._tables:
                for statement in table.ddl:
                    connection.execute(statement)

    def _remove(self) -> None:
        index = oracle.Index(*self._servers.elasticsearch())
        for name in index.call("GET", f"/{self._prefix}*?expand_wildcards=all"):
            index.call("DELETE", f"/{name}")
        index.close()
        with self._servers.connect("postgres", autocommit=True) as server:
            name = sql.Identifier(self._database)
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            server.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(name))


def summary(results: Sequence[Result]) -> str:
    """The last line of a run."""
    return f"seeds {len(results)}, rows wrong {sum(len(result.wrong) for result in results)}"
