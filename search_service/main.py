"""`pg-es-search`: the service under uvicorn, and new API keys."""

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NoReturn

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from search_service import logs
from search_service.access import keys
from search_service.access.rules import RulesError
from search_service.app import create_app
from search_service.metrics import MULTIPROCESS
from search_service.points import shared
from search_service.protocol import Protocol
from search_service.settings import Settings, explain
from search_service.tracing import TracingError

_NEW_OBJECTS = 20_000
"""Between two looks for garbage in cycles: a few MB."""


def main() -> None:
    """Serve until SIGINT or SIGTERM, or make a key; exit status 2 when a setting is wrong."""
    arguments = _parser().parse_args()
    if arguments.command == "key":
        _print_key(arguments.name, arguments.role or ["REPLACE-ME"])
    else:
        _serve()


def app() -> FastAPI:
    """The application of one process, with the settings of the environment."""
    logs.configure()
    return _settled(create_app(Settings()))


def _settled(application: FastAPI) -> FastAPI:
    # Python looks for garbage in cycles once so many objects are there more than before, of which a
    # flood has enough, and at times in all of them: a tenth of a second in which nobody is served.
    # What is there now stays, and what comes leaves next to no cycles.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
    return application


def _parser() -> argparse.ArgumentParser:
    names = "\n".join(
        f"  {name.upper():22} {field.description}" for name, field in Settings.model_fields.items()
    )
    parser = argparse.ArgumentParser(
        prog="pg-es-search",
        description="Search over HTTP in what pg-es-pipeline has loaded into Elasticsearch.",
        epilog=f"settings, from the environment or a file .env in this folder:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands.add_parser("serve", help="serve searches; the same without a command")
    key = commands.add_parser("key", help="make an API key, and its entry for SEARCH_ACCESS")
    key.add_argument("name", help="whose key it is, for the log")
    key.add_argument("--role", action="append", help="a role that it gives; may be repeated")
    return parser


def _print_key(name: str, roles: list[str]) -> None:
    made = keys.make()
    # The key alone on standard output, for a script to keep; what may be seen on the other.
    print(made.text)
    print(
        "The key is shown only this once. Its entry for the file that SEARCH_ACCESS names:",
        "keys:",
        f"  - name: {_quoted(name)}",
        f"    id: {_quoted(made.id)}",
        f"    sha256: {_quoted(made.sha256)}",
        f"    roles: [{', '.join(map(_quoted, roles))}]",
        sep="\n",
        file=sys.stderr,
    )


def _quoted(text: str) -> str:
    """A text as YAML takes it for nothing else: 12e4 is a number, and so is many an id."""
    return "'" + text.replace("'", "''") + "'"


def _serve() -> None:
    try:
        settings = Settings()
    except ValidationError as error:
        _end(explain(error))
    several = settings.search_workers > 1
    try:
        # With several processes each makes its own; what cannot work is said once, before.
        application = create_app(settings)
        with _several(settings) if several else nullcontext():
            uvicorn.run(
                "search_service.main:app" if several else _settled(application),
                factory=several,
                workers=settings.search_workers,
                # A busy machine takes longer than uvicorn's 5 s to start one.
                timeout_worker_healthcheck=60,
                host=settings.search_host,
                port=settings.search_port,
                http=Protocol,
                server_header=False,
                access_log=False,
                log_config=logs.configure(),
            )
    except (RulesError, TracingError) as error:
        _end(str(error))


@contextmanager
def _several(settings: Settings) -> Iterator[None]:
    """What several processes share: what `points.shared` does, and a folder for their metrics."""
    with shared(settings), tempfile.TemporaryDirectory(prefix="pg-es-search-") as folder:
        os.environ.setdefault(MULTIPROCESS, folder)
        yield


def _end(reason: str) -> NoReturn:
    print(f"pg-es-search cannot start.\n{reason}", file=sys.stderr)
    sys.exit(2)
