"""`pg-es`: the commands beside Dagster's own."""

from contextlib import suppress

import typer

from pg_es_pipeline.commands.check import check
from pg_es_pipeline.commands.init import init
from pg_es_pipeline.commands.reindex import reindex, rollback
from pg_es_pipeline.commands.retry import retry
from pg_es_pipeline.commands.status import status
from pg_es_pipeline.commands.verify import verify

app = typer.Typer(
    help="PostgreSQL tables, searchable in Elasticsearch, kept in step by Dagster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _commands() -> None:
    """Keeps `pg-es` a group of commands, however few there are."""


app.command()(init)
app.command()(check)
app.command()(status)
app.command()(verify)
app.command()(retry)
app.command()(reindex)
app.command()(rollback)

# The local stack belongs to a checkout; an installed package has none.
with suppress(ModuleNotFoundError):
    from dev.stack.cli import app as stack

    app.add_typer(stack, name="stack")


def main() -> None:
    app()


if __name__ == "__main__":
    main()
