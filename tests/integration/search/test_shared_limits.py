"""Rates that several processes count together in Redis, a real one."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from redis import Redis
from redis.exceptions import ConnectionError

from dev import apt
from search_service import limits
from search_service.limits import Limiter, Memory, Rate, Shared, judge

pytestmark = pytest.mark.anyio

TEN = (Rate(10, 60),)


@contextmanager
def redis(port: int, folder: Path) -> Iterator[str]:
    """A Redis on this port; its URL."""
    # Both are one program, which goes by its name; only the package of the tools starts no server.
    found = apt.program(
        ["redis-server", "redis-check-rdb"], ["redis-tools"], os.environ, log=folder / "apt-get.log"
    )
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(
        ["redis-server", *arguments], executable=found, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        assert any("Ready to accept connections" in line for line in server.stdout)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.communicate(timeout=10)


async def allowed(limiter: Limiter, times: int) -> int:
    verdicts = [await limiter.judge("ann", None) for _ in range(times)]
    return sum(verdict is not None and verdict.allowed for verdict in verdicts)


async def test_processes_count_together_and_keys_end_by_themselves(
    unused_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_PATIENCE", 10.0)
    with redis(unused_port, tmp_path) as url:
        one, other = Limiter(TEN, url), Limiter(TEN, url)
        assert await allowed(one, 6) + await allowed(other, 6) == 10
        with Redis.from_url(url) as client:
            assert all(0 < client.ttl(key) <= 120 for key in client.scan_iter())
        await one.close()
        await other.close()


async def test_redis_and_memory_judge_alike(
    unused_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_PATIENCE", 10.0)
    rates = (Rate(5, 1), Rate(20, 60))
    with redis(unused_port, tmp_path) as url:
        shared, memory = Shared(url), Memory()
        for number in range(60):
            now = 6_000.0 + number * 0.13
            verdicts = [
                judge(rates, await store.take("ann", rates, now), now) for store in (shared, memory)
            ]
            assert verdicts[0] == verdicts[1], now
        await shared.close()


async def test_while_redis_is_away_each_process_counts_for_itself(
    unused_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_AWAY", 0.0)
    with structlog.testing.capture_logs() as events:
        limiter = Limiter(TEN, f"redis://127.0.0.1:{unused_port}/0")
        assert await allowed(limiter, 12) == 10
        monkeypatch.setattr(limits, "_PATIENCE", 10.0)
        with redis(unused_port, tmp_path):
            assert await allowed(limiter, 3) == 3
        with pytest.raises(ConnectionError):
            Redis.from_url(f"redis://127.0.0.1:{unused_port}/0").ping()
        await allowed(limiter, 3)
        await limiter.close()
    assert [event["event"] for event in events] == ["redis_away", "redis_back", "redis_away"]
