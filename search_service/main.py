"""`pg-es-search`: the service under uvicorn."""

import argparse
import sys
from contextlib import nullcontext

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from search_service.app import create_app
from search_service.points import shared
from search_service.settings import Settings, explain


def main() -> None:
    """Serve until SIGINT or SIGTERM; exit status 2 when a setting is missing or wrong."""
    names = "\n".join(
        f"  {name.upper():22} {field.description}" for name, field in Settings.model_fields.items()
    )
    argparse.ArgumentParser(
        prog="pg-es-search",
        description="Search over HTTP in what pg-es-pipeline has loaded into Elasticsearch.",
        epilog=f"settings, from the environment or a file .env in this folder:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    try:
        settings = Settings()
    except ValidationError as error:
        print(f"pg-es-search cannot start.\n{explain(error)}", file=sys.stderr)
        sys.exit(2)
    several = settings.search_workers > 1
    with shared(settings) if several else nullcontext():
        uvicorn.run(
            "search_service.main:app" if several else create_app(settings),
            factory=several,
            workers=settings.search_workers,
            host=settings.search_host,
            port=settings.search_port,
            server_header=False,
        )


def app() -> FastAPI:
    """The application of one of several processes, with the settings of the environment."""
    return create_app(Settings())
