"""The tables that are searched, as a dbt project would make them: each is an asset."""

import dagster as dg
import psycopg

from pg_es_pipeline.settings import PostgresSettings, read

_RAW = """
CREATE SCHEMA IF NOT EXISTS raw;
CREATE TABLE IF NOT EXISTS raw.orders AS
SELECT n AS id, 1 + n % 3 AS customer_id, (n * 1.5)::numeric(10, 2) AS amount
FROM generate_series(1, 30) n;
"""

_ORDERS = """
CREATE SCHEMA IF NOT EXISTS marts;
CREATE TABLE IF NOT EXISTS marts.orders (
    id bigint PRIMARY KEY, customer text NOT NULL, amount numeric(10, 2),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE marts.orders IS 'Orders with the names of their customers.';
INSERT INTO marts.orders (id, customer, amount)
SELECT o.id, (ARRAY['Ada', 'Grace', 'Mary'])[o.customer_id], o.amount FROM raw.orders o
ON CONFLICT (id) DO UPDATE SET
    customer = excluded.customer, amount = excluded.amount, updated_at = now()
WHERE (orders.customer, orders.amount) IS DISTINCT FROM (excluded.customer, excluded.amount);
"""


@dg.asset(key_prefix="raw", name="orders", kinds={"postgres"})
def raw_orders() -> None:
    """Orders as they come in."""
    _execute(_RAW)


@dg.asset(key_prefix="marts", name="orders", deps=[raw_orders], kinds={"postgres", "dbt"})
def orders() -> None:
    """Orders as people want to find them."""
    _execute(_ORDERS)


def _execute(statements: str) -> None:
    settings = read(PostgresSettings)
    password = settings.password.get_secret_value() if settings.password else None
    with psycopg.connect(
        host=settings.host,
        port=settings.port,
        dbname=settings.database,
        user=settings.user,
        password=password,
        sslmode=settings.sslmode,
    ) as connection:
        connection.execute(statements)
