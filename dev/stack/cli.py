"""`pg-es stack`: up, down, status, env."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dev.stack.errors import StackError
from dev.stack.stack import DEFAULT_FOLDER, Stack

app = typer.Typer(
    help="PostgreSQL and Elasticsearch on this machine, without Docker.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Folder = Annotated[
    Path, typer.Option(help="Where data and logs are kept.", file_okay=False, show_default=".stack")
]


@app.command()
def up(folder: Folder = DEFAULT_FOLDER) -> None:
    """Start what is not running, and wait until it is ready."""
    with _errors():
        Stack(folder).up()


@app.command()
def down(folder: Folder = DEFAULT_FOLDER) -> None:
    """Stop the servers; the data stay."""
    with _errors():
        Stack(folder).down()


@app.command()
def status(folder: Folder = DEFAULT_FOLDER) -> None:
    """Show what is running, and where."""
    with _errors():
        for server in Stack(folder).status():
            where = f" · {server.address}" if server.address else ""
            process = f" · pid {server.pid} · log {server.log}" if server.pid else ""
            typer.echo(f"{server.name} · {server.state}{where}{process}")


@app.command()
def env(folder: Folder = DEFAULT_FOLDER) -> None:
    """Print the variables for a shell: eval "$(pg-es stack env)"."""
    with _errors():
        for name, value in Stack(folder).environment().items():
            quoted = shlex.quote(value)
            typer.echo(f"export {name}={quoted if quoted != value else repr(value)}")


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except StackError as error:
        Console(stderr=True).print(
            f"Error: {error}", style="red", highlight=False, markup=False, soft_wrap=True
        )
        raise typer.Exit(1) from None
