"""Java and Maven of the local stack: found, installed, or asked for. The programs are stand-ins."""

import os
from pathlib import Path

import pytest
from rich.console import Console

from dev.stack import StackError
from dev.stack.toolchain import Toolchain


class Machine:
    """A PATH with nothing on it but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.console = Console(record=True, file=(folder / "console").open("w"), width=200)

    def program(self, name: str, script: str = "", *, where: Path | None = None) -> Path:
        file = (where or self.bin) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return file

    def java(self, version: str = "17.0.15", *, where: Path | None = None) -> Path:
        return self.program("java", f"echo 'openjdk version \"{version}\"' >&2", where=where)

    def apt_get(self, script: str) -> None:
        calls = self.folder / "apt-get.calls"
        self.program("apt-get", f'echo "$@" >> {calls}\n[ "$1" = update ] && exit\n{script}')

    @property
    def installed(self) -> str:
        """What the last call of `apt-get` was asked for; empty when it was never called."""
        calls = self.folder / "apt-get.calls"
        return calls.read_text().splitlines()[-1] if calls.exists() else ""

    def toolchain(self, **environment: str) -> Toolchain:
        path = {"PATH": str(self.bin), **environment}
        return Toolchain(path, log=self.folder / "logs" / "apt-get.log", console=self.console)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.mark.parametrize("version", ["17", "17.0.15", "21-ea", "25.0.1"])
def test_java_on_the_path_is_used(machine: Machine, version: str) -> None:
    java = machine.java(version)
    assert machine.toolchain().java() == java


def test_java_home_wins_over_the_path(machine: Machine, tmp_path: Path) -> None:
    machine.java("11.0.2")
    java = machine.java(where=tmp_path / "jdk" / "bin")
    assert machine.toolchain(JAVA_HOME=str(tmp_path / "jdk")).java() == java


def test_a_jre_is_enough_to_run_but_not_to_build(machine: Machine, ordinary_user: None) -> None:
    machine.java()
    machine.program("mvn")
    machine.toolchain().java()
    with pytest.raises(StackError, match="`javac` is not on the PATH"):
        machine.toolchain().maven()


def test_maven_runs_with_the_jdk_that_was_found(machine: Machine, tmp_path: Path) -> None:
    for name in ("java", "javac"):
        where = tmp_path / "jdk" / "bin"
        program = (
            machine.java(where=where) if name == "java" else machine.program(name, where=where)
        )
        (machine.bin / name).symlink_to(program)
    maven = machine.program("mvn")
    found, environment = machine.toolchain().maven()
    assert found == maven
    assert environment["JAVA_HOME"] == str(tmp_path / "jdk")


def test_root_gets_java_and_maven_installed_and_is_told(machine: Machine, root: None) -> None:
    machine.apt_get(
        f"printf '#!/bin/sh\\necho version \\\\\"17\\\\\" >&2\\n' > {machine.bin}/java\n"
        f"for each in javac mvn; do echo '#!/bin/sh' > {machine.bin}/$each; done\n"
        f"/bin/chmod +x {machine.bin}/*"
    )
    machine.toolchain().maven()
    assert machine.installed.split()[-2:] == ["openjdk-17-jdk-headless", "maven"]
    said = machine.console.export_text()
    assert "Java is not on the PATH" in said
    assert "installing openjdk-17-jdk-headless maven" in said


def test_only_what_is_missing_is_installed(machine: Machine, root: None) -> None:
    machine.java()
    machine.program("javac")
    machine.apt_get(f"echo '#!/bin/sh' > {machine.bin}/mvn; /bin/chmod +x {machine.bin}/mvn")
    machine.toolchain().maven()
    assert machine.installed.endswith("--no-install-recommends maven")


def test_a_failed_installation_shows_why_and_the_remedy(machine: Machine, root: None) -> None:
    machine.apt_get("echo E: no space left; exit 100")
    with pytest.raises(StackError) as raised:
        machine.toolchain().java()
    message = str(raised.value)
    assert "`apt-get install openjdk-17-jdk-headless` failed" in message
    assert "E: no space left" in message
    assert "ES_HOST" in message


def test_an_installation_that_does_not_help_is_no_success(machine: Machine, root: None) -> None:
    machine.java("11.0.2")
    machine.apt_get("exit 0")
    with pytest.raises(StackError, match=r"is version 11.*although .* was installed"):
        machine.toolchain().java()


@pytest.mark.parametrize(("version", "seen"), [("11.0.2", "11"), ("1.8.0_402", "8")])
def test_an_old_java_is_named_with_the_command_for_it(
    machine: Machine, ordinary_user: None, version: str, seen: str
) -> None:
    java = machine.java(version)
    machine.apt_get("exit 0")
    with pytest.raises(StackError) as raised:
        machine.toolchain().java()
    message = str(raised.value)
    assert f"{java} is version {seen}" in message
    assert "`sudo apt-get install openjdk-17-jdk-headless`" in message
    assert machine.installed == "", "an ordinary user's machine is left alone"


def test_without_apt_get_the_remedy_names_no_command(machine: Machine, root: None) -> None:
    with pytest.raises(StackError, match="Install a JDK of version 17 or newer and Maven"):
        machine.toolchain().java()


def test_a_java_that_does_not_run_is_named(machine: Machine, ordinary_user: None) -> None:
    machine.program("java", "exit 1")
    with pytest.raises(StackError, match="does not run"):
        machine.toolchain().java()


def test_a_wrong_java_home_is_for_the_user_to_mend(
    machine: Machine, root: None, tmp_path: Path
) -> None:
    machine.java()
    machine.apt_get("exit 0")
    with pytest.raises(StackError, match="Unset JAVA_HOME"):
        machine.toolchain(JAVA_HOME=str(tmp_path / "gone")).java()
    assert machine.installed == ""
