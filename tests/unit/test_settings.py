"""What the environment says of servers and batches, and what is said when it is wrong."""

import os
from pathlib import Path

import pytest

from pg_es_pipeline.errors import SettingsError
from pg_es_pipeline.orchestration.resources import (
    BatchingResource,
    ElasticsearchResource,
    PostgresResource,
)
from pg_es_pipeline.settings import (
    BatchingSettings,
    ElasticsearchSettings,
    PostgresSettings,
    ProjectSettings,
    Settings,
    read,
)

POSTGRES = {"PG_HOST": "db", "PG_DATABASE": "shop", "PG_USER": "reader"}
ELASTICSEARCH = {"ES_HOST": "search"}
REQUIRED = {**POSTGRES, **ELASTICSEARCH}
KINDS = (PostgresSettings, ElasticsearchSettings, BatchingSettings, ProjectSettings)
SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of the variables is set, and the working directory has no .env."""
    variables = {
        f"{kind.model_config.get('env_prefix', '')}{field}".upper()
        for kind in KINDS
        for field in kind.model_fields
    }
    for name in list(os.environ):
        if name.upper() in variables:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def give(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def refusal(kind: type[Settings]) -> str:
    with pytest.raises(SettingsError) as caught:
        read(kind)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        (PostgresSettings, "PG_HOST"),
        (PostgresSettings, "PG_DATABASE"),
        (PostgresSettings, "PG_USER"),
        (ElasticsearchSettings, "ES_HOST"),
    ],
)
@pytest.mark.parametrize("empty", [False, True])
def test_a_missing_or_empty_variable_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, kind: type[Settings], variable: str, empty: bool
) -> None:
    give(monkeypatch, {name: value for name, value in REQUIRED.items() if name != variable})
    if empty:
        monkeypatch.setenv(variable, "")
    message = refusal(kind)
    assert message.startswith(f"{variable} is not set: set it in the environment or in .env")
    assert 'eval "$(pg-es stack env)"' in message
    assert "\n" not in message


def test_all_missing_variables_are_named_at_once() -> None:
    lines = refusal(PostgresSettings).splitlines()
    assert [line.split()[0] for line in lines] == ["PG_HOST", "PG_DATABASE", "PG_USER"]


def test_an_empty_optional_variable_leaves_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, {**POSTGRES, "PG_PORT": "", "PG_PASSWORD": "", "MIN_BATCH_SIZE": ""})
    assert read(PostgresSettings).port == 5432
    assert read(PostgresSettings).password is None
    assert read(BatchingSettings).min_batch_size == 100


@pytest.mark.parametrize(
    ("kind", "wrong", "named"),
    [
        (PostgresSettings, {"PG_PORT": SECRET}, ["PG_PORT"]),
        (PostgresSettings, {"PG_PORT": "70000"}, ["PG_PORT"]),
        (PostgresSettings, {"PG_SSLMODE": SECRET}, ["PG_SSLMODE"]),
        (ElasticsearchSettings, {"ES_PORT": "0"}, ["ES_PORT"]),
        (ElasticsearchSettings, {"ES_USE_SSL": SECRET}, ["ES_USE_SSL"]),
        (ElasticsearchSettings, {"ES_HOST": "https://search"}, ["ES_HOST"]),
        (ElasticsearchSettings, {"ES_USER": "writer"}, ["ES_USER", "ES_PASSWORD"]),
        (ElasticsearchSettings, {"ES_PASSWORD": SECRET}, ["ES_USER", "ES_PASSWORD"]),
        (
            ElasticsearchSettings,
            {"ES_USER": "writer", "ES_PASSWORD": SECRET, "ES_API_KEY": SECRET},
            ["ES_API_KEY", "ES_USER", "ES_PASSWORD"],
        ),
        (ElasticsearchSettings, {"ES_CA_CERTS": "nowhere.pem"}, ["ES_CA_CERTS", "nowhere.pem"]),
        (ElasticsearchSettings, {"ES_CA_CERTS": "."}, ["ES_CA_CERTS"]),
        (BatchingSettings, {"MIN_BATCH_SIZE": "0"}, ["MIN_BATCH_SIZE"]),
        (BatchingSettings, {"MAX_BATCH_SIZE": SECRET}, ["MAX_BATCH_SIZE"]),
        (BatchingSettings, {"RATE_LIMIT": "-1"}, ["RATE_LIMIT"]),
        (BatchingSettings, {"POOL_SIZE": "0"}, ["POOL_SIZE"]),
        (
            BatchingSettings,
            {"MIN_BATCH_SIZE": "500", "MAX_BATCH_SIZE": "200"},
            ["MIN_BATCH_SIZE (500)", "MAX_BATCH_SIZE (200)"],
        ),
        (ProjectSettings, {"SYNC_INTERVAL": "0"}, ["SYNC_INTERVAL"]),
    ],
)
def test_a_wrong_value_is_named_in_one_line_without_a_secret(
    monkeypatch: pytest.MonkeyPatch, kind: type[Settings], wrong: dict[str, str], named: list[str]
) -> None:
    give(monkeypatch, {**REQUIRED, **wrong})
    message = refusal(kind)
    assert all(name in message for name in named)
    assert "\n" not in message
    assert SECRET not in message


def test_each_wrong_value_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, {**POSTGRES, "PG_PORT": "abc", "PG_SSLMODE": "maybe", "PG_USER": ""})
    lines = refusal(PostgresSettings).splitlines()
    assert {line.split()[0] for line in lines} == {"PG_PORT", "PG_USER", "PG_SSLMODE"}
    assert len(lines) == 3


def test_secrets_do_not_show_where_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, {**REQUIRED, "PG_PASSWORD": SECRET, "ES_API_KEY": SECRET})
    shown = f"{read(PostgresSettings)!r} {read(ElasticsearchSettings)!r}"
    assert SECRET not in shown


def test_the_file_env_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(
        "PG_HOST=from-file\nPG_DATABASE=from-file\nPG_USER=from-file\nPG_PORT=\nUNRELATED=1\n"
    )
    monkeypatch.setenv("PG_HOST", "from-environment")
    settings = read(PostgresSettings)
    assert (settings.host, settings.database) == ("from-environment", "from-file")
    assert settings.port == 5432


def test_a_given_value_wins_over_the_environment_unless_it_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give(monkeypatch, POSTGRES)
    settings = read(PostgresSettings, host="given", database=None)
    assert (settings.host, settings.database) == ("given", "shop")


def test_a_resources_own_values_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, {**REQUIRED, "PG_PORT": "1111", "ES_USE_SSL": "true", "RATE_LIMIT": "50"})
    assert PostgresResource(host="given").settings().host == "given"
    assert PostgresResource(host="given").settings().port == 1111
    assert ElasticsearchResource(use_ssl=False).settings().use_ssl is False
    assert BatchingResource(rate_limit=0).settings().rate_limit == 0


def test_a_resource_without_values_names_the_missing_variable() -> None:
    with pytest.raises(SettingsError, match="ES_HOST is not set"):
        ElasticsearchResource().settings()


def test_credentials_come_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, {**POSTGRES, "PG_PASSWORD": SECRET})
    password = PostgresResource(host="given").settings().password
    assert password is not None
    assert password.get_secret_value() == SECRET
    assert "password" not in PostgresResource.model_fields
    assert not {"password", "api_key"} & set(ElasticsearchResource.model_fields)


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "http://search:9200"),
        ({"ES_USE_SSL": "true", "ES_PORT": "443"}, "https://search:443"),
    ],
)
def test_the_address_of_elasticsearch(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str
) -> None:
    give(monkeypatch, {**ELASTICSEARCH, **variables})
    assert read(ElasticsearchSettings).url == url
