"""On what, and with what, figures were measured."""

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from benchmarks.servers import Servers

_PACKAGES = ("pg-es-pipeline", "dagster", "elasticsearch", "elastic-transport", "psycopg")
_ROOT = Path(__file__).parents[1]


def machine() -> dict[str, str | int | float]:
    return {
        "CPU": _line("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory, GB": round(int(_line("/proc/meminfo", "MemTotal").split()[0]) / 1e6, 1),
        "kernel": platform.release(),
        "load average at the start": round(os.getloadavg()[0], 2),
    }


def versions(servers: Servers, packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Of the servers, and of Python with these packages."""
    with servers.connect() as connection:
        row = connection.execute("SHOW server_version").fetchone()
    with servers.client() as client:
        elasticsearch = client.info()["version"]["number"]
        [node] = client.nodes.info(metric="jvm")["nodes"].values()
    return {
        "PostgreSQL": row[0] if row else "",
        "Elasticsearch": elasticsearch,
        "Java": f"{node['jvm']['vm_name']} {node['jvm']['version']}",
        "Python": platform.python_version(),
        **{f"package {name}": version(name) for name in packages},
        "commit": _git("rev-parse", "HEAD")
        + (", changed" if _git("status", "--short", "--untracked-files=no") else ""),
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True)
    return done.stdout.strip() or ("unknown" if done.returncode else "")


def _line(file: str, field: str) -> str:
    for line in Path(file).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""
