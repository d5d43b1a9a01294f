"""The local stack: PostgreSQL and Elasticsearch on this machine, without Docker."""

from dev.stack.errors import StackError
from dev.stack.stack import ServerStatus, Stack, surroundings

__all__ = ["ServerStatus", "Stack", "StackError", "surroundings"]
