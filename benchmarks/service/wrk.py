"""Many requests at once: wrk, found or installed where that is a matter of one command."""

import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.service.asked import Asked
from dev import apt

_SCRIPT = Path(__file__).with_name("load.lua")
_TENTHS = 10_000  # parts of a millisecond in a second


@dataclass(frozen=True)
class Answers:
    """What came back. Times are in milliseconds."""

    seconds: float
    total: int
    refused: int
    """Answers of 400 and more."""
    broken: int
    """Requests without an answer."""
    p50: float
    p99: float
    by_status: Mapping[int, Counter[float]] = field(default_factory=dict)
    """How many had which time, if that was asked for."""

    @property
    def per_second(self) -> float:
        return self.total / self.seconds

    def count(self, *statuses: int) -> int:
        return sum(self.by_status.get(status, Counter()).total() for status in statuses)

    def percentile(self, share: float, *statuses: int) -> float:
        """The time in which so many percent of the answers with these statuses came; 0 if none."""
        times: Counter[float] = Counter()
        for status in statuses:
            times.update(self.by_status.get(status, Counter()))
        left = times.total() * share / 100
        for time in sorted(times):
            left -= times[time]
            if left <= 0:
                return time
        return 0.0


def program(environment: Mapping[str, str], log: Path) -> str:
    """The wrk on the PATH, or Debian's; as `dev.apt.program`."""
    return str(apt.program(["wrk"], ["wrk"], environment, log=log))


def send(
    wrk: str,
    address: str,
    asked: Sequence[Asked],
    folder: Path,
    *,
    connections: int,
    seconds: float,
    pause: float = 0.0,
    timed: bool = False,
) -> Answers:
    """Sends requests in turn, over and over.

    Args:
        pause: the mean of the seconds that each connection waits before a request.
        timed: whether the times of each status are wanted, of which the service alone tells.
    """
    file = folder / "requests.lua"
    file.write_text(f"return {{{','.join(map(_lua, asked))}}}")
    command = [wrk, "--threads", "1", "--connections", str(connections), "--timeout", "30s"]
    command += ["--duration", f"{max(1, round(seconds))}s", "--script", str(_SCRIPT), address]
    command += ["--", str(file), f"{pause:g}", "timed" if timed else "plain"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"wrk has failed:\n{done.stdout}{done.stderr}")
    return _read(done.stdout)


def _read(output: str) -> Answers:
    by_status: dict[int, Counter[float]] = {}
    total: list[float] = []
    for line in output.splitlines():
        kind, *words = line.split() or [""]
        if kind == "total":
            total = [float(word) for word in words]
        elif kind == "count":
            status, tenths, count = map(int, words)
            by_status.setdefault(status, Counter())[(tenths + 1) / 10] += count
    requests, microseconds, refused, broken, p50, p99 = total
    return Answers(
        microseconds / 1e6,
        int(requests),
        int(refused),
        int(broken),
        p50 / 1e3,
        p99 / 1e3,
        by_status,
    )


def _lua(asked: Asked) -> str:
    headers = ",".join(f"[{_quoted(name)}]={_quoted(value)}" for name, value in asked.headers)
    body = f",body={_quoted(asked.body)}" if asked.body else ""
    return (
        f"{{method={_quoted(asked.method)},path={_quoted(asked.path)},headers={{{headers}}}{body}}}"
    )


def _quoted(text: str) -> str:
    """A text as Lua writes it: each byte by its number."""
    return '"' + "".join(f"\\{byte:03}" for byte in text.encode()) + '"'
