"""The files at the root say the same as the code."""

import re
import stat
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import SecretStr
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

import pg_es_pipeline.settings
import search_service.settings
from pg_es_pipeline.tables import Checks, Cursor, Snapshot, Table, read_tables

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

DAGSTER = {"DAGSTER_HOME": ""} | dict.fromkeys(
    re.findall(
        r"\bDAGSTER_PG_[A-Z]+\b",
        (ROOT / "pg_es_pipeline/orchestration/storage.py").read_text(),
    ),
    "",
)
DAGSTER["DAGSTER_PG_PORT"] = "5432"


def settings() -> dict[str, str]:
    """Each variable that the code reads, and its default as one writes it in the environment."""
    found = dict(DAGSTER)
    for module in (pg_es_pipeline.settings, search_service.settings):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, BaseSettings):
                prefix = kind.model_config.get("env_prefix", "")
                for name, field in kind.model_fields.items():
                    found[f"{prefix}{name}".upper()] = written(field.default)
    return found


def written(default: object) -> str:
    match default:
        case None | SecretStr():
            return ""
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}"
        case _ if default is PydanticUndefined:
            return "required"
    return str(default)


def section(title: str) -> str:
    found = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL
    )
    assert found, f"README.md has no section {title!r}"
    return found[1]


def test_the_readme_lists_every_variable_and_its_default() -> None:
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| [^|]+ \| (none|required|`[^`]+`) \|$",
        section("Configuration"),
        re.MULTILINE,
    )
    listed = {name: "" if default == "none" else default.strip("`") for name, default in rows}
    assert len(rows) == len(listed), "a variable is listed twice"
    assert listed == settings()


def test_the_example_of_an_environment_has_every_variable_and_its_default() -> None:
    lines = re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE)
    assert len(lines) == len(dict(lines)), "a variable is listed twice"
    defaults = {
        name: "" if default == "required" else default for name, default in settings().items()
    }
    assert dict(lines) == defaults


def test_an_untouched_copy_of_the_example_sets_nothing() -> None:
    assert re.findall(r"^(?!#|$).*", EXAMPLE, re.MULTILINE) == []


def test_the_readme_lists_every_key_of_a_table() -> None:
    listed = set(re.findall(r"`([a-z_.]+)`(?=[^|]* \|)", keys_column(section("tables.yaml"))))
    expected = set(Table.model_fields) - {"cursor", "snapshot", "checks"}
    expected |= {f"cursor.{name}" for name in Cursor.model_fields}
    expected |= {f"snapshot.{name}" for name in Snapshot.model_fields}
    expected |= {f"checks.{name}" for name in Checks.model_fields}
    assert listed == expected


def keys_column(text: str) -> str:
    """The first column of the first table of a text."""
    first = text.split("\n\n| `partitions` |")[0]
    return "\n".join(row.split("|")[1] + " |" for row in re.findall(r"^\| `.*$", first, re.M))


@pytest.mark.parametrize("text", re.findall(r"^\| `(\{by: .*?\})`", README, re.MULTILINE))
def test_the_readmes_partitions_are_accepted(text: str, tmp_path: Path) -> None:
    file = tmp_path / "tables.yaml"
    file.write_text(f"tables:\n  - table: public.orders\n    partitions: {text}\n")
    [table] = read_tables(file).tables
    assert table.partitions is not None


def test_links_in_the_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    assert len(documents) > 2
    for document in documents:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def pins(name: str) -> dict[str, str]:
    """The versions that a requirements file and those that it includes pin, by package."""
    found: dict[str, str] = {}
    for line in (ROOT / name).read_text().splitlines():
        if line.startswith("-r "):
            found |= pins(line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            exact = re.fullmatch(r"([\w.-]+)==([\w.]+)", line)
            assert exact, f"{name}: {line!r} is not name==version"
            package = canonicalize_name(exact[1])
            assert package not in found, f"{name}: {exact[1]} twice"
            found[package] = exact[2]
    return found


NEEDED_BY_LINT = {"black", "flake8", "mypy", "ruff", "types-pyyaml"}


@pytest.mark.parametrize(
    ("name", "extras"),
    [("requirements.txt", ["demo"]), ("requirements-dev.txt", ["demo", "dev"])],
)
def test_every_direct_dependency_is_pinned_to_a_version_that_the_project_accepts(
    name: str, extras: list[str]
) -> None:
    direct = [*PROJECT["dependencies"]]
    for extra in extras:
        direct += PROJECT["optional-dependencies"][extra]
    pinned = pins(name)
    for requirement in map(Requirement, direct):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not pinned in {name}"
        assert requirement.specifier.contains(version), f"{requirement} but {name} has {version}"


def test_the_tests_need_no_more_than_requirements_txt() -> None:
    dev = {
        canonicalize_name(Requirement(line).name)
        for line in PROJECT["optional-dependencies"]["dev"]
    }
    assert dev - NEEDED_BY_LINT <= pins("requirements.txt").keys()


def test_continuous_integration_runs_make_test_and_nothing_else() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & stat.S_IXUSR
    commands = [
        line
        for line in script.read_text().splitlines()
        if not line.startswith(("#", "set ", "cd ", "exec "))
    ]
    assert commands == ["make test"]
