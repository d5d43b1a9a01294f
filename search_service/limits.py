"""Rates: how many requests a caller may make, counted in this process or for all in Redis.

The count slides: the last window's requests weigh in for the share of it that is not over a whole
window ago, so that a caller cannot take a whole window's requests on both sides of its edge. A
request that is refused is not counted.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Protocol

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")
_PATIENCE = 0.1  # seconds for Redis: a request waits for it, and can do without
_AWAY = 5.0  # seconds in which a Redis that has failed is not asked
_MOST_CALLERS = 100_000  # counted in memory, of the last two windows


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds."""

    requests: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may be made, and of the rate that is nearest to its end: how many are left,
    and in how many seconds there are more."""

    allowed: bool
    rate: Rate
    remaining: int
    reset: float

    def headers(self) -> dict[str, str]:
        """`RateLimit-*` of draft-ietf-httpapi-ratelimit-headers-07, in whole seconds."""
        seconds = str(max(1, ceil(self.reset)))
        found = {
            "RateLimit-Limit": str(self.rate.requests),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": seconds,
        }
        return found if self.allowed else {**found, "Retry-After": seconds}


def parse_rates(text: str) -> tuple[Rate, ...]:
    """Rates such as `100/second;1000/minute`.

    Raises:
        ValueError: it is none.
    """
    rates = []
    for part in text.split(";"):
        match = _RATE.fullmatch(part.strip())
        if match is None:
            raise ValueError(
                "must be such as 100/second or 100/second;1000/minute (second, minute, hour, day)"
            )
        rates.append(Rate(int(match[1]), _SECONDS[match[2]]))
    return tuple(rates)


class Store(Protocol):
    """Where requests are counted."""

    async def take(self, caller: str, rates: Sequence[Rate], now: float) -> list[tuple[int, int]]:
        """Count a request under all rates if each allows it.

        Returns for each rate the requests of the window before and of this one, without this one.
        """


def weighed(rate: Rate, before: int, current: int, now: float) -> float:
    """The requests of the last `rate.seconds`, as if those of the window before were even."""
    passed = now / rate.seconds % 1
    return before * (1 - passed) + current


def judge(rates: Sequence[Rate], counts: Sequence[tuple[int, int]], now: float) -> Verdict:
    """The verdict on a request, from the counts that its store gave."""
    verdicts = []
    for rate, (before, current) in zip(rates, counts, strict=True):
        used = weighed(rate, before, current, now)
        allowed = used + 1 <= rate.requests
        remaining = max(0, floor(rate.requests - used) - allowed)
        verdicts.append(Verdict(allowed, rate, remaining, _reset(rate, before, current, now)))
    worst = min(verdicts, key=lambda verdict: (verdict.allowed, verdict.remaining))
    if worst.allowed:
        return worst
    # All of the rates that refuse must allow it again.
    refused = [verdict for verdict in verdicts if not verdict.allowed]
    return max(refused, key=lambda verdict: verdict.reset)


def _reset(rate: Rate, before: int, current: int, now: float) -> float:
    """Seconds until one request more is allowed than is left now; when none is left, until one."""
    left_of_window = rate.seconds - now % rate.seconds
    excess = weighed(rate, before, current, now) + 1 - rate.requests
    if excess <= 0:
        return left_of_window
    if before and excess * rate.seconds / before <= left_of_window:
        return excess * rate.seconds / before
    # From the next window on, this one's requests fade in the same way.
    over = current + 1 - rate.requests
    return left_of_window + max(0.0, over * rate.seconds / current if current else 0.0)


class Memory:
    """Counts of this process."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, Rate], tuple[int, int, int]] = {}

    async def take(self, caller: str, rates: Sequence[Rate], now: float) -> list[tuple[int, int]]:
        """As `Store.take`."""
        counts = []
        for rate in rates:
            window = int(now // rate.seconds)
            # Out and in again, so that the callers seen last are the last.
            known, before, current = self._counts.pop((caller, rate), (window, 0, 0))
            if known != window:
                before, current = (current if known == window - 1 else 0), 0
            counts.append((before, current))
        allowed = all(
            weighed(rate, *count, now) + 1 <= rate.requests
            for rate, count in zip(rates, counts, strict=True)
        )
        for rate, (before, current) in zip(rates, counts, strict=True):
            window = int(now // rate.seconds)
            self._counts[caller, rate] = (window, before, current + allowed)
        while len(self._counts) > _MOST_CALLERS:
            del self._counts[next(iter(self._counts))]
        return counts


# One round trip for all the rates of a request, and no other request in between. The clock is that
# of the caller: windows are as long as rates, beside which the clocks of servers differ little.
_TAKE = """
local now, allowed, counts = tonumber(ARGV[1]), true, {}
for i = 1, #KEYS / 2 do
  local requests, seconds = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local before = tonumber(redis.call('GET', KEYS[2 * i - 1]) or 0)
  local current = tonumber(redis.call('GET', KEYS[2 * i]) or 0)
  counts[2 * i - 1], counts[2 * i] = before, current
  local passed = now / seconds % 1
  if before * (1 - passed) + current + 1 > requests then allowed = false end
end
if allowed then
  for i = 1, #KEYS / 2 do
    if redis.call('INCR', KEYS[2 * i]) == 1 then
      redis.call('EXPIRE', KEYS[2 * i], 2 * tonumber(ARGV[2 * i + 1]))
    end
  end
end
return counts
"""


class Shared:
    """Counts in Redis, for all the processes that use the same one.

    Raises:
        redis.exceptions.RedisError: Redis is away, or does not answer in a moment.
    """

    def __init__(self, url: str) -> None:
        self._redis: Any = Redis.from_url(
            url,
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
            retry=Retry(NoBackoff(), 0),
        )
        self._script = self._redis.register_script(_TAKE)

    async def take(self, caller: str, rates: Sequence[Rate], now: float) -> list[tuple[int, int]]:
        """As `Store.take`."""
        keys, arguments = [], [repr(now)]
        for rate in rates:
            window = int(now // rate.seconds)
            # One hash slot for all, as a cluster wants it.
            name = f"pg-es-search:{{{caller}}}:{rate.requests}:{rate.seconds}"
            keys += [f"{name}:{window - 1}", f"{name}:{window}"]
            arguments += [str(rate.requests), str(rate.seconds)]
        counts = await self._script(keys=keys, args=arguments)
        return list(zip(counts[::2], counts[1::2], strict=True))

    async def close(self) -> None:
        """End the connections."""
        await self._redis.aclose()


class Limiter:
    """Judges requests. While Redis is away each process counts for itself."""

    def __init__(self, default: Sequence[Rate], redis_url: str | None) -> None:
        self._default = tuple(default)
        self._memory = Memory()
        self._shared = Shared(redis_url) if redis_url else None
        self._ask_again_at = float("-inf")

    async def judge(self, caller: str, rates: Sequence[Rate] | None) -> Verdict | None:
        """The verdict on a request of this caller; None: there is no limit.

        Args:
            caller: whose requests are counted together.
            rates: what is allowed; None: what the service allows everybody.
        """
        rates = self._default if rates is None else rates
        if not rates:
            return None
        now = time.time()
        return judge(rates, await self._take(caller, rates, now), now)

    async def close(self) -> None:
        """End the connections to Redis."""
        if self._shared is not None:
            await self._shared.close()

    async def _take(self, caller: str, rates: Sequence[Rate], now: float) -> list[tuple[int, int]]:
        if self._shared is None or time.monotonic() < self._ask_again_at:
            return await self._memory.take(caller, rates, now)
        try:
            counts = await self._shared.take(caller, rates, now)
        except (RedisError, OSError) as error:
            if self._ask_again_at == float("-inf"):
                log.warning("redis_away", reason=type(error).__name__)
            self._ask_again_at = time.monotonic() + _AWAY
            return await self._memory.take(caller, rates, now)
        if self._ask_again_at != float("-inf"):
            log.info("redis_back")
            self._ask_again_at = float("-inf")
        return counts
