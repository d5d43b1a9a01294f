"""Which user the PostgreSQL server runs as: it refuses to run as root.

The user may be unable to enter the folders above the stack or the virtual environment (`/root` has
mode 0700). Their modes are not ours to change. Then, and only then, the server keeps one capability
of root's: to pass folders and read files.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.stack.errors import StackError

_CANDIDATES = ("postgres", "pg-es-stack")
# The weaker capability first; a container often holds only the second.
_CAPABILITIES = ("dac_read_search", "dac_override")


@dataclass(frozen=True)
class Account:
    """The user that owns PostgreSQL's data and runs its programs, and how to become that user."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()
    """What goes before each command; empty when this process already is the user."""

    def command(self, arguments: Sequence[str]) -> list[str]:
        return [*self.prefix, *arguments]

    def own(self, path: Path) -> None:
        """Hands a file or folder of ours to the user."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid)


def account_for(folder: Path, programs: Path) -> Account:
    """The account to run the programs with data below `folder`.

    `folder` exists; where it belongs to an ordinary user already (data of an earlier start), that
    user is kept. Raises StackError when root has no user to switch to, or that user cannot reach
    the folders.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError(
            "PostgreSQL does not run as root, and `setpriv`, which changes the user, is not on the "
            "PATH.\nInstall the package util-linux, or run the stack as an ordinary user."
        )
    user = _unprivileged_user(folder)
    become = (setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    plain = (*become, "--inh-caps=-all", "--")
    # access(2), which initdb calls, ignores the capabilities of all users but root without the bit.
    privileged = [
        (
            *become,
            "--securebits=+no_setuid_fixup",
            f"--inh-caps=-all,+{name}",
            f"--ambient-caps=-all,+{name}",
            "--",
        )
        for name in _CAPABILITIES
    ]
    for prefix in (plain, *privileged):
        if _reaches(prefix, folder, programs):
            return Account(user.pw_uid, user.pw_gid, prefix)
    raise StackError(
        f"PostgreSQL does not run as root, and the user {user.pw_name} cannot reach {folder} or "
        f"{programs}.\nPut the checkout below a folder that other users may enter, or run the "
        "stack as an ordinary user."
    )


def _unprivileged_user(folder: Path) -> pwd.struct_passwd:
    owner = folder.stat().st_uid
    if owner != 0:
        try:
            return pwd.getpwuid(owner)
        except KeyError:
            pass
    for name in _CANDIDATES:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    name = _CANDIDATES[-1]
    useradd = shutil.which("useradd")
    if useradd is None:
        raise StackError(
            "PostgreSQL does not run as root, and there is no user to run it as.\n"
            "Make a system user named `postgres`, or run the stack as an ordinary user."
        )
    made = subprocess.run(
        [
            useradd,
            "--system",
            "--user-group",
            "--no-create-home",
            "--shell=/usr/sbin/nologin",
            name,
        ],
        capture_output=True,
        text=True,
    )
    if made.returncode != 0:
        raise StackError(
            f"PostgreSQL does not run as root, and making the user {name} failed: "
            f"{made.stderr.strip()}\nMake a system user named `postgres`, or run the stack as an "
            "ordinary user."
        )
    return pwd.getpwnam(name)


def _reaches(prefix: Sequence[str], folder: Path, programs: Path) -> bool:
    """Whether a process with this prefix can use both; the server is asked for its version."""
    server = str(programs / "postgres")
    checks = (["test", "-x", str(folder)], ["test", "-x", server], [server, "--version"])
    return all(
        subprocess.run([*prefix, *check], cwd="/", capture_output=True).returncode == 0
        for check in checks
    )
