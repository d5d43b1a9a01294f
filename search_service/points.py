"""Points in time of Elasticsearch: how many are open, in all processes of this service."""

import asyncio
import fcntl
import mmap
import os
import secrets
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from elastic_transport import TransportError
from elasticsearch import ApiError

from search_service.elastic import Elastic
from search_service.errors import too_many_walks
from search_service.settings import Settings, secrets_of

log = structlog.get_logger(__name__)

SHARED = "PG_ES_SEARCH_WALKS"
"""The variable with which the first process tells the others of the file; not a setting."""

_SLOT = struct.Struct("16sd")  # the walk's name, and the time when it ends unless it is used
_RETRY_AFTER = 5


class Slots:
    """A fixed number of places, in a file that this service's processes share."""

    def __init__(self, number: int) -> None:
        # Of one process alone, it needs no name.
        shared = os.environ.get(SHARED)
        self._file = open(shared, "r+b") if shared else tempfile.TemporaryFile()  # noqa: SIM115
        size = _SLOT.size * number
        with self._locked():
            self._file.truncate(size)
        self._map = mmap.mmap(self._file.fileno(), size)

    def take(self, name: bytes, seconds: float) -> bool:
        """Keep a place under this name for so long from now; False when there is none."""
        now = time.time()
        with self._locked():
            free = None
            for position in range(0, len(self._map), _SLOT.size):
                owner, until = _SLOT.unpack_from(self._map, position)
                if owner == name:
                    free = position
                    break
                if free is None and until < now:
                    free = position
            if free is None:
                return False
            _SLOT.pack_into(self._map, free, name, now + seconds)
            return True

    def release(self, name: bytes) -> None:
        """Give the place back."""
        with self._locked():
            for position in range(0, len(self._map), _SLOT.size):
                if _SLOT.unpack_from(self._map, position)[0] == name:
                    _SLOT.pack_into(self._map, position, b"", 0.0)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)


@contextmanager
def shared(settings: Settings) -> Iterator[None]:
    """Let the processes that are started meanwhile have the same places, and seal cursors alike."""
    with tempfile.NamedTemporaryFile(prefix="pg-es-search-") as file:
        os.environ[SHARED] = file.name
        os.environ["SEARCH_SECRET"] = ",".join(secrets_of(settings))
        yield


class Points:
    """Opens and closes points in time, each under the name of the walk that it is for."""

    def __init__(self, elastic: Elastic, slots: Slots, keep_alive: int) -> None:
        self._elastic = elastic
        self._slots = slots
        self._seconds = keep_alive
        self._closing: set[asyncio.Task[None]] = set()
        self.keep_alive = f"{keep_alive}s"
        """How long Elasticsearch keeps a point from its last use on."""

    async def open(self, generation: str) -> tuple[str, str]:
        """A new walk's name and its point in time.

        Raises:
            search_service.errors.ServiceError: too many are open.
            elastic_transport.TransportError, elasticsearch.ApiError: Elasticsearch fails.
        """
        name = secrets.token_hex(16)
        if not self._slots.take(bytes.fromhex(name), self._seconds):
            raise too_many_walks(_RETRY_AFTER)
        try:
            return name, await self._elastic.open_point(generation, self.keep_alive)
        except BaseException:
            self._slots.release(bytes.fromhex(name))
            raise

    def used(self, name: str) -> None:
        """The walk goes on: its point is kept from now on."""
        self._slots.take(bytes.fromhex(name), self._seconds)

    def close(self, name: str, point: str) -> None:
        """End the walk; nobody waits for Elasticsearch to free what it keeps."""
        task = asyncio.get_running_loop().create_task(self._close(name, point))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def closed(self) -> None:
        """Wait for all that is being closed."""
        await asyncio.gather(*self._closing)

    async def _close(self, name: str, point: str) -> None:
        try:
            await self._elastic.close_point(point)
        except (TransportError, ApiError) as error:  # then it expires by itself
            log.warning("point_in_time_not_closed", reason=type(error).__name__)
        else:
            self._slots.release(bytes.fromhex(name))
