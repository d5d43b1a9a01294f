"""Programs of other makers: found, installed, or asked for. Those here are stand-ins."""

import os
from pathlib import Path

import pytest

from dev.apt import NotInstalled
from dev.browser import chromium


class Machine:
    """A PATH with nothing on it but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def program(self, name: str, script: str = "") -> Path:
        file = self.folder / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return file

    def chromium(self) -> Path:
        return chromium({"PATH": str(self.folder)}, log=self.folder / "logs" / "apt-get.log")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_a_browser_on_the_path_is_used(machine: Machine, root: None, name: str) -> None:
    machine.program("apt-get", "exit 1")
    program = machine.program(name)
    assert machine.chromium() == program


def test_root_gets_chromium_installed(machine: Machine, root: None) -> None:
    program = machine.folder / "chromium"
    machine.program(
        "apt-get", f"[ $1 = update ] || echo '#!/bin/sh' > {program}; /bin/chmod +x {program}"
    )
    assert machine.chromium() == program


def test_one_process_installs_at_a_time(machine: Machine, root: None) -> None:
    program = machine.folder / "chromium"
    machine.program(
        "apt-get",
        f"/usr/bin/flock --nonblock $0 /bin/true && exit 1\necho '#!/bin/sh' > {program}\n"
        f"/bin/chmod +x {program}",
    )
    assert machine.chromium() == program


def test_a_failed_installation_shows_why(machine: Machine, root: None) -> None:
    machine.program("apt-get", "echo E: no space left; exit 100")
    with pytest.raises(NotInstalled, match=r"`apt-get install chromium .*failed:\n.*no space left"):
        machine.chromium()


def test_an_ordinary_user_is_told_the_command(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    machine.program("apt-get", f"touch {machine.folder}/called")
    with pytest.raises(
        NotInstalled, match=r"on the PATH. Install it with `sudo apt-get install chro"
    ):
        machine.chromium()
    assert not (machine.folder / "called").exists(), "an ordinary user's machine is left alone"


def test_without_apt_get_the_remedy_names_no_command(machine: Machine, root: None) -> None:
    with pytest.raises(
        NotInstalled,
        match=r"chromium or chromium-browser or google-chrome is not on the PATH. Install it.$",
    ):
        machine.chromium()
