"""The build of the Elasticsearch node, with a stand-in for Maven."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from dev.stack import StackError
from dev.stack.node import built_node, node_folder
from dev.stack.postgres import find_programs
from dev.stack.toolchain import Toolchain

QUIET = Console(quiet=True)
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A cache of its own, and a PATH whose `mvn` counts its calls and takes half a second."""
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {
        "java": "echo 'version \"17\"' >&2",
        "javac": "",
        "mvn": f"echo call >> {tmp_path}/calls; sleep 0.5; mkdir -p target/node/lib",
    }
    for name, script in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    cache = str(tmp_path / "cache")
    return {"PATH": f"{programs}:{os.environ['PATH']}", "XDG_CACHE_HOME": cache}


def build(environment: dict[str, str]) -> Path:
    tools = Toolchain(environment, log=Path("unused"), console=QUIET)
    return built_node(environment, tools, QUIET)


def test_two_builders_build_once(environment: dict[str, str], tmp_path: Path) -> None:
    program = (
        "import os; from pathlib import Path; from rich.console import Console;"
        "from dev.stack.node import built_node; from dev.stack.toolchain import Toolchain;"
        "console = Console(quiet=True);"
        "tools = Toolchain(os.environ, log=Path('unused'), console=console);"
        "print(built_node(os.environ, tools, console))"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    printed = {process.communicate(timeout=30)[0].strip() for process in both}
    assert printed == {str(node_folder(environment))}
    assert (tmp_path / "calls").read_text() == "call\n"


def test_a_built_node_needs_no_maven(environment: dict[str, str], tmp_path: Path) -> None:
    node = build(environment)
    (tmp_path / "bin" / "mvn").unlink()
    assert build({**environment, "PATH": str(tmp_path / "bin")}) == node


def test_a_failed_build_leaves_nothing_and_shows_the_end_of_its_log(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "bin" / "mvn").write_text("#!/bin/sh\nmkdir -p target/node\necho BAD; exit 1\n")
    with pytest.raises(StackError, match="BAD"):
        build(environment)
    left = sorted(path.suffix for path in node_folder(environment).parent.iterdir())
    assert left == [".lock", ".log"]


def test_the_cache_is_in_the_home_folder_unless_named(tmp_path: Path) -> None:
    folder = node_folder({"HOME": str(tmp_path)})
    assert folder.parent == tmp_path / ".cache" / "pg-es-pipeline"
    assert folder.name.startswith("elasticsearch-8.19.21-")


def test_postgres_of_the_newest_version_of_debian_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    for version in ("9.6", "15", "16"):
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        for name in ("initdb", "postgres"):
            (folder / name).touch()
    assert find_programs(tmp_path) == tmp_path / "16" / "bin"


def test_without_any_postgres_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match="pip install -e"):
        find_programs(tmp_path)
