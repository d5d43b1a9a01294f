"""The stack's Elasticsearch: one node on loopback, without security."""

import http.client
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from dev.stack import processes
from dev.stack.errors import StackError
from dev.stack.node import built_node, elasticsearch_version
from dev.stack.ports import Ports, read_port, write_port
from dev.stack.toolchain import Toolchain

HOST = "127.0.0.1"
PORT = 9200

_HEAP = "1g"
_START_SECONDS = 120


class Elasticsearch:
    """One node with its data in `folder`."""

    name = "Elasticsearch"

    def __init__(
        self,
        folder: Path,
        logs: Path,
        *,
        ports: Ports,
        environment: Mapping[str, str],
        console: Console,
    ) -> None:
        self.folder = folder
        self.log = logs / "elasticsearch.log"
        self._ports = ports
        self._environment = environment
        self._console = console
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int | None:
        """The port of this start or the last one."""
        return read_port(self.folder)

    @property
    def pid(self) -> int | None:
        """The running node's pid."""
        running = [pid for pid in self._processes() if not processes.in_deleted_folder(pid)]
        return running[0] if running else None

    def environment(self) -> dict[str, str]:
        """The variables that name this server; it has been started at least once."""
        return {"ES_HOST": HOST, "ES_PORT": str(self.port), "ES_USE_SSL": "false"}

    def start(self) -> None:
        """Starts the node unless it runs; returns when the cluster is yellow or green.

        Raises StackError.
        """
        if (pid := self.pid) is not None:
            self._answer_or_fail()
            self._say(f"already running on {HOST}:{self.port} (pid {pid})")
            return
        self.stop()
        tools = Toolchain(
            self._environment, log=self.log.with_name("apt-get.log"), console=self._console
        )
        node = built_node(self._environment, tools, self._console)
        began = time.monotonic()
        self._launch(tools.java(), node)
        elapsed = time.monotonic() - began
        self._say(f"ready on {HOST}:{self.port} (pid {self.pid}) in {elapsed:.1f} s")

    def stop(self) -> bool:
        """Ends the node; False when there was none."""
        if not self._processes():
            return False
        processes.end(self._processes, signal.SIGTERM, patience=60)
        if self._process is not None:
            self._process.wait(timeout=10)
        return True

    def _processes(self) -> list[int]:
        return processes.find("java", self.folder)

    def _launch(self, java: Path, node: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        # Written by the node once it listens; what an earlier start left would name a wrong port.
        self._portsfile.unlink(missing_ok=True)
        earlier = [str(self.port)] if self.port else []
        usual = [str(PORT)] if self._ports == "usual" else []
        settings = {
            "path.data": str(self.folder / "data"),
            "path.logs": str(self.log.parent),
            # The node takes the first that is free when it binds; 0 is any.
            "http.port": ",".join([*earlier, *usual, "0"]),
            # The collector below leaves garbage until the heap is full. The breaker would take it
            # for memory in use, refuse every request, and so keep it from ever being collected.
            "indices.breaker.total.use_real_memory": "false",
        }
        self._process = processes.launch(
            [
                str(java),
                f"-Xms{_HEAP}",
                f"-Xmx{_HEAP}",
                # The collector for few cores and a small heap: a third less CPU while loading.
                "-XX:+UseSerialGC",
                "-XX:+ExitOnOutOfMemoryError",
                *shlex.split(self._environment.get("ES_JAVA_OPTS", "")),
                f"-Djava.io.tmpdir={temporary}",
                "-cp",
                f"{node}/lib/*",
                "dev.pges.EsNode",
                str(node),
                *(f"{name}={value}" for name, value in settings.items()),
            ],
            cwd=self.folder,
            log=self.log,
            environment=self._environment,
        )
        try:
            answered = processes.wait_until(
                lambda: self._ended() or self._listens_and_is_healthy(), _START_SECONDS
            )
        except BaseException:
            processes.abandon(self._process)
            raise
        if self._ended():
            raise self._failed("ended while it was starting")
        if not answered:
            processes.abandon(self._process)
            raise self._failed(f"was not ready within {_START_SECONDS} s")

    @property
    def _portsfile(self) -> Path:
        return self.log.parent / "http.ports"

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _listens_and_is_healthy(self) -> bool:
        try:
            address = self._portsfile.read_text().splitlines()[0]
        except (OSError, IndexError):
            return False
        port = int(address.rsplit(":", 1)[1])
        if not _is_healthy(port):
            return False
        write_port(self.folder, port)
        return True

    def _answer_or_fail(self) -> None:
        if not processes.wait_until(lambda: self.port is not None and _is_healthy(self.port), 30):
            raise StackError(
                f"Elasticsearch runs (pid {self.pid}) but is not ready on {HOST}:{self.port}.\n"
                f"Stop it with `pg-es stack down`, then start it again.\n{processes.tail(self.log)}"
            )

    def _failed(self, reason: str) -> StackError:
        return StackError(
            f"Elasticsearch {elasticsearch_version()} {reason}.\n{processes.tail(self.log)}"
        )

    def _say(self, text: str) -> None:
        self._console.print(
            f"Elasticsearch {elasticsearch_version()} · {text}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _is_healthy(port: int) -> bool:
    # http.client goes past the proxies that the environment may name.
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        # 408 when the status is not reached within the timeout.
        connection.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=1s")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
