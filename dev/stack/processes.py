"""The servers' processes: start them apart from this one, find them again, end them.

No pid file is kept, since a pid file outlives its process and its number is given to another. A
server is known by two things that only it has together: its working directory (its own folder) and
the name of its program. That needs Linux's /proc.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

POLL = 0.05
"""Seconds between two looks at something awaited."""

_DELETED = " (deleted)"


def launch(
    command: Sequence[str], *, cwd: Path, log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Starts a server that outlives this process and its terminal; its output goes to `log`.

    The log of the start before is kept beside it as `….log.1`.
    """
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def find(program: str, folder: Path) -> list[int]:
    """Pids of the running `program` whose working directory is `folder`, also one deleted since."""
    wanted = {str(folder), f"{folder}{_DELETED}"}
    return [pid for pid in _pids() if _cwd(pid) in wanted and _name(pid) == program]


def in_deleted_folder(pid: int) -> bool:
    """Whether the folder that the process works in is gone, and with it the server's data."""
    return _cwd(pid).endswith(_DELETED)


def end(pids: Callable[[], Iterable[int]], how: signal.Signals, *, patience: float) -> None:
    """Asks the processes to end with `how`, and after `patience` seconds kills those that are left.

    `pids` is asked again each time: children are found, and no pid of a stranger is hit.
    """
    for sign, seconds in ((how, patience), (signal.SIGKILL, 10.0)):
        for pid in pids():
            _signal(pid, sign)
        if wait_until(lambda: not list(pids()), seconds):
            return


def abandon(process: subprocess.Popen[bytes]) -> None:
    """Ends a server whose start has failed or was interrupted."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Polls until `condition` holds; False when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, indented, with where the whole of it is."""
    text = log.read_text(errors="replace").splitlines() if log.exists() else []
    shown = "\n".join(f"    {line}" for line in text[-lines:]) or "    (empty)"
    return f"The last lines of {log}:\n{shown}"


def _pids() -> Iterable[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _cwd(pid: int) -> str:
    # A zombie has none and another user's is not readable; neither is a server of ours.
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _signal(pid: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
