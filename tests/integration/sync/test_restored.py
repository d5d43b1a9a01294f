"""A database that was set back is noticed, and the index follows it back."""

import psycopg
import pytest

from pg_es_pipeline.errors import DeletesRefused
from pg_es_pipeline.sync import snapshot
from pg_es_pipeline.sync.checkpoints import Checkpoints
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.indices import Indices
from tests.integration.orders import Orders


def alter_checkpoint(orders: Orders, **changes: str) -> None:
    """Makes the checkpoint one that another database has left."""
    with orders.engine() as engine:
        generation = Indices(orders.es).find(Document(engine.source(orders.table)))
    assert generation is not None
    checkpoints = Checkpoints(orders.es)
    checkpoint = checkpoints.read(generation, ["all"])["all"]
    for name, value in changes.items():
        setattr(checkpoint, name, value)
    checkpoints.write(generation, checkpoint)


def set_back(orders: Orders) -> None:
    """Rows as an older backup has them: one older, one not yet there, all with an old cursor."""
    orders.pg.execute("ALTER TABLE orders DISABLE TRIGGER touch")
    orders.pg.execute("UPDATE orders SET note = 'from the backup' WHERE id = 1")
    orders.pg.execute("DELETE FROM orders WHERE id = 2")


@pytest.mark.parametrize(
    "changes",
    [{"origin": "another:1:16384"}, {"horizon": "2190-01-01 00:00:00+00"}],
    ids=["another database", "a clock from before"],
)
def test_the_index_follows_a_restored_backup(orders: Orders, changes: dict[str, str]) -> None:
    orders.insert(range(1, 11))
    orders.sync()
    set_back(orders)
    assert orders.stale() == {}, "no cursor can see it"
    alter_checkpoint(orders, **changes)

    assert orders.stale() == {"all": None}
    report = orders.sync()

    assert report.full
    assert orders.is_in_step()
    assert orders.stale() == {}
    # The horizon is of this database again: changes are seen.
    orders.pg.execute("UPDATE orders SET note = 'later', updated_at = now() WHERE id = 3")
    assert orders.stale() == {"all": 1}


def test_orphans_are_looked_for_again_when_they_could_not_be_removed(orders: Orders) -> None:
    orders.insert(range(1, 101))
    orders.sync()
    orders.pg.execute("DELETE FROM orders WHERE id > 20")
    alter_checkpoint(orders, origin="another:1:16384")
    orders.table = orders.table.model_copy(update={"max_deletes": 0.1})

    for _ in range(2):
        with pytest.raises(DeletesRefused, match="partition all"):
            orders.sync()
        assert orders.stale() == {"all": None}

    orders.table = orders.table.model_copy(update={"max_deletes": 1.0})
    orders.sync()
    assert orders.is_in_step()
    assert orders.stale() == {}


def test_a_role_that_may_not_ask_which_database_it_is_can_load(orders: Orders) -> None:
    orders.insert(range(1, 4))
    role = f"r{orders.database.dbname}"
    orders.pg.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    try:
        orders.pg.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        orders.pg.execute("REVOKE EXECUTE ON FUNCTION pg_control_checkpoint() FROM PUBLIC")
        with psycopg.connect(
            orders.database.conninfo, user=role, password="secret", autocommit=True
        ) as connection:
            assert snapshot.Present.of(connection).origin is None
    finally:
        orders.pg.execute(f"DROP OWNED BY {role}")
        orders.pg.execute(f"DROP ROLE {role}")
