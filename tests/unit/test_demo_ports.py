"""The ports of demos that run at the same time."""

import socket
import subprocess
import sys
from pathlib import Path

from dev.demo.services import free_port

CHOOSE = "import sys; from dev.demo.services import free_port; print(free_port({}), flush=True)"
HOLD = "sys.stdin.read()"


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_that_another_demo_has_chosen_is_taken_before_anyone_listens_on_it() -> None:
    port = unused_port()
    with subprocess.Popen(
        [sys.executable, "-c", f"{CHOOSE.format(port)}; {HOLD}"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert int(other.stdout.readline()) == port
        assert free_port(port) != port
        other.communicate("")
    assert free_port(port) == port


def test_a_port_that_somebody_listens_on_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        assert free_port(port) != port
