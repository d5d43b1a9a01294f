"""What goes wrong around the loaders: they are killed, and the servers with them."""

import http.client
import json
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dev.stack.processes import wait_until
from tests.torture.proxy import Faults
from tests.torture.servers import Servers

_ROOT = Path(__file__).parents[2]


PATIENCE = 5.0
"""Seconds; a fault that lasts longer is one more to be killed in."""


STOP_SECONDS = 120
"""How long a loader may take to end its load."""


class LoaderHangs(Exception):
    """A loader did not end; with where each of its threads is."""


OVERLOAD_SECONDS = 4.0
"""Past the time for which a loader tries again (loader.SHORTER)."""


class Loaders:
    """Several loader processes; one that was killed is followed by another."""

    def __init__(
        self, environment: dict[str, str], plan: Path, seed: str, count: int, log: Path
    ) -> None:
        self._environment = environment
        self._plan, self._seed, self._log = plan, seed, log
        self._processes: list[subprocess.Popen[bytes]] = []
        self._started = 0
        for _ in range(count):
            self.start()

    def start(self) -> None:
        self._started += 1
        # Its end may come between any two lines; what it had to say is in the log.
        with self._log.with_suffix(".err").open("ab") as errors:
            self._processes.append(
                subprocess.Popen(
                    [
                        *(sys.executable, "-m", "tests.torture.loader", str(self._plan)),
                        *(f"{self._seed} loader {self._started}", str(self._log)),
                    ],
                    cwd=_ROOT,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                )
            )

    def kill(self, chance: random.Random) -> None:
        """Kills one when the loaders have got somewhere since the last time: on a slow machine they
        would never get past their start."""
        seen = len(self.events())
        wait_until(lambda: len(self.events()) > seen, PATIENCE)
        victim = self._processes.pop(chance.randrange(len(self._processes)))
        victim.kill()
        victim.wait()

    def stop(self) -> None:
        """Lets each end its load."""
        for process in self._processes:
            process.terminate()
        try:
            for process in self._processes:
                process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGUSR1)  # it writes where it is
            wait_until(lambda: "most recent call" in self.last_words(), 5)
            raise LoaderHangs(self.last_words()) from None
        finally:
            for process in self._processes:
                process.kill()
                process.wait()

    def events(self) -> list[dict[str, Any]]:
        """What the loaders noted; a line that a kill has cut off is left out."""
        events = []
        for line in self._log.read_text().splitlines() if self._log.exists() else []:
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return events

    def last_words(self) -> str:
        """What went wrong outside the loads."""
        return self._log.with_suffix(".err").read_text()


class Chaos(threading.Thread):
    """Does its worst every now and then until it is stopped; then all servers run."""

    def __init__(
        self,
        seed: str,
        servers: Servers,
        loaders: Loaders,
        database: str,
        indices: Sequence[str],
        faults: Faults,
    ) -> None:
        super().__init__(name=seed, daemon=True)
        self.done: Counter[str] = Counter()
        self.failure: BaseException | None = None
        self._random = random.Random(seed)
        self._servers, self._loaders = servers, loaders
        self._database, self._indices, self._faults = database, indices, faults
        self._over = threading.Event()
        # A restart takes seconds: few of each, and not with every seed.
        self._plan = [
            *["kill"] * self._random.randint(2, 5),
            *["terminate"] * self._random.randint(1, 4),
            *["overload"] * self._random.choice([0, 1]),
            *["flush"] * self._random.randint(0, 2),
            *["restart PostgreSQL"] * self._random.choice([0, 0, 1, 2]),
            *["restart Elasticsearch"] * self._random.choice([0, 0, 0, 0, 1]),
            *["delete an index"] * self._random.choice([0, 0, 0, 1]),
        ]
        self._random.shuffle(self._plan)

    def end(self) -> None:
        """Waits until what it is at is done, and the servers run."""
        self._over.set()
        self.join()

    def stop(self) -> None:
        """As `end`. Raises what it failed with."""
        self.end()
        if self.failure:
            raise self.failure

    def run(self) -> None:
        try:
            for action in self._plan:
                if self._over.wait(self._random.uniform(0.2, 1.2)):
                    break
                self._do(action)
                self.done[action] += 1
        except BaseException as failure:
            self.failure = failure

    def _do(self, action: str) -> None:
        match action:
            case "kill":
                self._loaders.kill(self._random)
                self._loaders.start()
            case "terminate":
                self._terminate()
            case "restart PostgreSQL":
                how = self._random.choice([signal.SIGINT, signal.SIGQUIT])  # fast, immediate
                self._servers.restart("PostgreSQL", how)
            case "restart Elasticsearch":
                self._servers.restart("Elasticsearch", signal.SIGKILL)
            case "overload":
                # Loads give up, and keep in their checkpoints what has arrived before.
                self._faults.overloaded = True
                self._over.wait(OVERLOAD_SECONDS)
                self._faults.overloaded = False
            case "flush":
                # What a node keeps of deleted documents only in memory does not survive its end.
                for index in self._indices:
                    self._call("POST", f"/{index}/_flush?force=true&ignore_unavailable=true")
            case "delete an index":
                index = self._random.choice(self._indices)
                for name in self._call("GET", f"/{index}?ignore_unavailable=true"):
                    self._call("DELETE", f"/{name}")

    def _terminate(self) -> None:
        with self._servers.connect(self._database, autocommit=True) as connection:
            pids = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND backend_type = 'client backend' ORDER BY pid"
            ).fetchall()
            for (pid,) in pids:
                if self._random.random() < 0.5:
                    connection.execute("SELECT pg_terminate_backend(%s)", [pid])

    def _call(self, method: str, path: str) -> Any:
        connection = http.client.HTTPConnection(*self._servers.elasticsearch(), timeout=60)
        connection.request(method, path)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer
