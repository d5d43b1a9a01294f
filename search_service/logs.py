"""Logs as events with fields, one JSON object a line, and as text where a person reads along.

No line has a value of a query, credentials, or a part of a document: of an exception only its type
and where it was raised, since messages name values.
"""

import sys
from traceback import extract_tb
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_Caught = tuple[type[BaseException], BaseException, TracebackType | None]


def configure() -> dict[str, Any]:
    """Set up the service's log on standard error; returns the same for `logging.config`."""
    readable = sys.stderr.isatty()
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_values,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*before, renderer],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [structlog.stdlib.PositionalArgumentsFormatter(), *before],
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"events": formatter},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "events"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {"uvicorn": {"level": "INFO"}, "uvicorn.access": {"level": "CRITICAL"}},
    }


def without_values(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Put an exception's type and places in the place of its traceback."""
    given = event.pop("exc_info", None)
    caught: _Caught | None = None
    if isinstance(given, BaseException):
        caught = (type(given), given, given.__traceback__)
    elif isinstance(given, tuple):
        caught = given if given[0] is not None else None
    elif given:
        current = sys.exc_info()
        caught = current if current[0] is not None else None
    if caught is not None:
        event["exception"] = caught[0].__name__
        event["raised_at"] = [
            f"{frame.filename}:{frame.lineno} {frame.name}" for frame in extract_tb(caught[2])
        ]
    return event
