"""New clones of the checkout, and terminals in them in which the README's commands are typed."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.acceptance.services import ROOT


def blocks(section: str) -> list[tuple[str, str]]:
    """How each marked block of a section of the README is to be run, and its commands."""
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no section {section!r}"
    marked = re.findall(
        r"^( *)<!-- ci: (.*?) -->\n\1```bash\n(.*?)^\1```$", found[1], re.MULTILINE | re.DOTALL
    )
    assert len(marked) == found[1].count("<!-- ci: "), "a mark is not followed by a bash block"
    return [(how, re.sub(rf"^{indent}", "", text, flags=re.M)) for indent, how, text in marked]


class Terminal:
    """One shell, and all the processes that were started in it, found by a mark."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._mark = f"PG_ES_TEST_MARK={secrets.token_hex(8)}"
        name, _, value = self._mark.partition("=")
        self._shell = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env={**environment, name: value},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # Job control: without it, what runs in the background ignores Ctrl-C, as Dagster's
        # commands then ignore SIGTERM too.
        self._type("set -m; trap 'failed=$?' ERR")

    def run(self, commands: str) -> tuple[int, str]:
        """The status of the last command that failed, or 0, and what all of them printed."""
        assert self._shell.stdout is not None
        end = secrets.token_hex(8)
        self._type(f"failed=0\n{commands}\nprintf '\\n%s %s\\n' {end} $failed")
        lines: list[str] = []
        for line in self._shell.stdout:
            if line.startswith(end):
                status = int(line.split()[1])
                output = "".join(lines)
                print(f"$ {commands}{output}[{status}]")
                return status, output
            lines.append(line)
        pytest.fail(f"the shell has ended: {commands}{''.join(lines)}")

    def _type(self, commands: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{commands}\n")
        self._shell.stdin.flush()

    def start(self, commands: str, log: Path) -> None:
        """Lets the commands run on in the background."""
        status, _ = self.run(f"{{\n{commands}}} > '{log}' 2>&1 < /dev/null &\n")
        assert status == 0

    def close(self) -> None:
        """Ends all that was started, first kindly: Dagster's processes clean up behind them."""
        for sign, seconds in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 10.0)):
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, sign)
            deadline = time.monotonic() + seconds
            while self.processes() and time.monotonic() < deadline:
                time.sleep(0.1)
        self._shell.wait()

    def processes(self) -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found


@contextmanager
def cloned(folder: Path) -> Iterator[Path]:
    """A new clone of what is committed, in which `make setup` has nothing left to do."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    make_environment(folder)
    yield folder
    # Whatever has happened: no server of this clone goes on.
    subprocess.run(
        [sys.executable, "-m", "dev.stack", "down"], cwd=folder, env=surroundings(), check=True
    )


def make_environment(folder: Path) -> None:
    """What `make setup` makes, from the packages of this test's environment.

    The package itself is the clone's: a `.pth` file of the running environment that names the
    checkout has no effect where its folder is only named by another `.pth` file.
    """
    environment = folder / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    paths = dict.fromkeys([str(folder), *map(sysconfig.get_path, ("purelib", "platlib"))])
    (environment / "lib" / version / "site-packages" / "clone.pth").write_text("\n".join(paths))
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    commands = {script.name: script.value for script in entry_points(group="console_scripts")}
    for name, target in {**commands, **project["scripts"]}.items():
        module, _, function = target.split("[")[0].strip().partition(":")
        script = environment / "bin" / name
        # Guarded as pip does it: a process that multiprocessing spawns imports its parent's script.
        script.write_text(
            f"#!{environment}/bin/python\nimport sys\n"
            f"from {module} import {function.split('.')[0]}\n"
            f"if __name__ == '__main__':\n    sys.exit({function}())\n"
        )
        script.chmod(0o755)
    (environment / ".installed").touch()


def surroundings() -> dict[str, str]:
    """This process's environment, without a word about servers or another virtual environment."""
    return {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"PG|ES_|SEARCH_|DAGSTER|SYNC_|DEMO_|PYTHON|VIRTUAL_ENV|MAKE|MFLAGS", name)
    }


@contextmanager
def terminal(clone: Path, home: Path, **variables: str) -> Iterator[Terminal]:
    """A terminal in the clone, in which port 8000 is the one that SEARCH_PORT names."""
    home.mkdir()
    (home / ".curlrc").write_text(
        f'connect-to = "127.0.0.1:8000:127.0.0.1:{variables["SEARCH_PORT"]}"\n'
        'noproxy = "*"\nfail-with-body\n'
    )
    one = Terminal(clone, {**surroundings(), "CURL_HOME": str(home), **variables})
    try:
        yield one
    finally:
        one.close()


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])
