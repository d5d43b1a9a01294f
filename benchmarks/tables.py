"""The tables that are loaded: the same rows in every run, for they follow from their numbers."""

from dataclasses import dataclass

from psycopg import sql

from pg_es_pipeline.sync.postgres import Connection
from pg_es_pipeline.tables import Table

# Seconds alone: Python and PostgreSQL write fractions of a second differently.
UPDATED_AT = "updated_at timestamptz NOT NULL DEFAULT date_trunc('second', now() - interval '1 h')"


@dataclass(frozen=True)
class Shape:
    """What the rows of a table are like."""

    name: str
    says: str
    columns: str
    """Without `id` and `updated_at`."""
    values: str
    """Their expressions over the row's number, `n`."""
    batches: tuple[int, ...]
    """Sizes of bulk requests, in documents, that the ceiling is looked for with."""
    setup: str = ""


NARROW = Shape(
    "narrow",
    "11 columns: numbers, a date, short texts",
    """
    customer int, status text, amount numeric(10, 2), placed timestamptz, paid boolean,
    email text, street text, city text, note text
    """,
    """
    n % 5000, (ARRAY['new', 'paid', 'sent', 'done'])[n % 4 + 1], n % 100000 / 100.0,
    '2024-01-01'::timestamptz + n * interval '1 minute', n % 2 = 0,
    'customer' || n || '@example.org', n % 300 || ' Long Street', 'City ' || n % 900,
    repeat('word ' || n % 977 || ' ', 12)
    """,
    (1_000, 2_500, 5_000),
)

# {k} tells the columns of a type apart, so that no two have the same values.
_WIDE = {
    "int": (14, "(n * (3 + {k}) % (1000 * ({k} + 1)))::int"),
    "bigint": (8, "n * 1000003 * ({k} + 1)"),
    "numeric(12, 2)": (8, "(n * (7 + {k}) % 10000000) / 100.0"),
    "float8": (6, "(n * (5 + {k}) % 1000003) / 1024.0"),
    "boolean": (6, "n % (2 + {k}) = 0"),
    "date": (4, "'2000-01-01'::date + (n * (1 + {k}) % 9000)::int"),
    "timestamptz": (4, "'2020-01-01'::timestamptz + n * ({k} + 1) * interval '1 second'"),
    "uuid": (2, "md5((n + {k})::text)::uuid"),
    "text": (6, "'value ' || n % (1000 * ({k} + 1)) || ' of column {k}'"),
}

WIDE = Shape(
    "wide",
    "60 columns of nine types",
    ", ".join(
        f"{type_.split()[0].split('(')[0]}_{k} {type_}"
        for type_, (count, _) in _WIDE.items()
        for k in range(count)
    ),
    ", ".join(value.format(k=k) for count, value in _WIDE.values() for k in range(count)),
    (500, 1_000, 2_500),
)

# Words of syllables, the low ranks the most frequent, as in a language; 1,024 sentences of them,
# of which every text is made.
_SENTENCES = """
CREATE TEMPORARY TABLE sentence AS
SELECT s AS id, string_agg(word, ' ' ORDER BY w) || '.' AS content
FROM generate_series(0, 1023) s, generate_series(1, 40) w,
LATERAL (
    SELECT power(20000, (hashint4extended(w, s) & 65535) / 65536.0)::int AS rank
) r,
LATERAL (
    SELECT (ARRAY['ba','de','ki','lo','mu','na','pe','ri','so','tu'])[rank % 10 + 1]
        || (ARRAY['l','n','r','s','t','ven','ga','mo','li','ra'])[rank / 10 % 10 + 1]
        || repeat('sa', rank / 100 % 2)
        || (ARRAY['','ti','no','ber','kul','fam','dor','zin','pol','gre'])[rank / 1000 % 10 + 1]
        || (ARRAY['','an','en','in','on'])[rank / 200 % 5 + 1] AS word
) AS words
GROUP BY s;
ALTER TABLE sentence ADD PRIMARY KEY (id);
"""
_PARTS = 15

TEXT = Shape(
    "text",
    "5 columns, one of them a text of about 4 KB",
    "title text, author text, body text",
    f"""
    'Title ' || n, 'Author ' || n % 5000,
    (SELECT string_agg(content, ' ' ORDER BY k) FROM generate_series(1, {_PARTS}) k
     JOIN sentence ON sentence.id = hashint8extended(n, k) & 1023)
    """,
    (250, 500, 1_000),
    _SENTENCES,
)

SHAPES = {shape.name: shape for shape in (NARROW, WIDE, TEXT)}


def make(
    connection: Connection, shape: Shape, rows: int, name: str | None = None, key: str = "bigint"
) -> None:
    """Makes a table and fills it; a key that is no `bigint` is the number as text behind a `k`."""
    table = sql.Identifier("public", name or shape.name)
    drop(connection, name or shape.name)
    if shape.setup:
        connection.execute("DROP TABLE IF EXISTS sentence")
        connection.execute(shape.setup)
    connection.execute(
        sql.SQL("CREATE TABLE {} (id {} PRIMARY KEY, {}, {})").format(
            table, sql.SQL(key), sql.SQL(shape.columns), sql.SQL(UPDATED_AT)
        )
    )
    connection.execute(
        sql.SQL("INSERT INTO {} SELECT {}, {} FROM generate_series(1::bigint, {}) n").format(
            table,
            sql.SQL("n" if key == "bigint" else "'k' || n"),
            sql.SQL(shape.values),
            sql.Literal(rows),
        )
    )
    connection.execute(sql.SQL("CREATE INDEX ON {} (updated_at, id)").format(table))
    connection.execute(sql.SQL("VACUUM ANALYZE {}").format(table))


def drop(connection: Connection, name: str) -> None:
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier("public", name)))


def table(name: str) -> Table:
    """How the pipeline is told of a table here."""
    return Table(table=f"public.{name}", index=name, cursor={"column": "updated_at"})


def json_bytes(connection: Connection, name: str) -> int:
    """Bytes of a table's rows as JSON."""
    row = connection.execute(
        sql.SQL("SELECT sum(octet_length(row_to_json(t)::text)) FROM {} t").format(
            sql.Identifier("public", name)
        )
    ).fetchone()
    assert row is not None
    return int(row[0])
