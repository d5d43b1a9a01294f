"""The manifests under k8s/: valid, consistent with each other, and known to the settings."""

import re
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

import pg_es_pipeline.settings
import pg_es_pipeline.tables
import search_service.settings
import search_service.tracing
from search_service.access.rules import read_rules

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "k8s").glob("*.yaml"))
ENTRY_SCRIPT = (ROOT / "docker/entrypoint.sh").read_text()


@cache
def manifests() -> list[dict[str, Any]]:
    return [document for file in FILES for document in yaml.safe_load_all(file.read_text())]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {m["metadata"]["name"]: m for m in manifests() if m["kind"] == kind}


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    [only] = deployment["spec"]["template"]["spec"]["containers"]
    return only


def environment(deployment: dict[str, Any]) -> dict[str, str]:
    """What the container gets to see. A reference to nothing is a KeyError."""
    variables: dict[str, str] = {}
    for source in container(deployment).get("envFrom", []):
        if "configMapRef" in source:
            variables |= of_kind("ConfigMap")[source["configMapRef"]["name"]]["data"]
        else:
            variables |= of_kind("Secret")[source["secretRef"]["name"]]["stringData"]
    for variable in container(deployment)["env"]:
        if "value" in variable:
            variables[variable["name"]] = variable["value"]
        else:
            [(kind, key)] = variable["valueFrom"].items()
            owner = of_kind({"configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"}[kind])
            manifest = owner[key["name"]]
            variables[variable["name"]] = manifest.get("data", manifest.get("stringData"))[
                key["key"]
            ]
    return variables


def known_variables() -> set[str]:
    names = set(re.findall(r"\b(?:SERVICE_TYPE|DAGSTER_[A-Z_]+)\b", ENTRY_SCRIPT))
    for settings in settings_of(pg_es_pipeline.settings) + settings_of(search_service.settings):
        names |= variables_of(settings)
    # Those of OpenTelemetry, and of uvicorn.
    names |= {*search_service.tracing.ENDPOINTS, "FORWARDED_ALLOW_IPS"}
    # Dagster's own storage is chosen by the repository's dagster.yaml and the class that it names.
    for file in [*ROOT.glob("dagster.yaml"), *(ROOT / "pg_es_pipeline").rglob("*.py")]:
        names |= set(re.findall(r"\bDAGSTER_PG_[A-Z]+\b", file.read_text()))
    return names


def settings_of(module: ModuleType) -> list[type[BaseSettings]]:
    return [
        member
        for member in vars(module).values()
        if isinstance(member, type) and issubclass(member, BaseSettings) and member.model_fields
    ]


def variables_of(settings: type[BaseSettings]) -> set[str]:
    names: set[str] = set()
    for name, field in settings.model_fields.items():
        match field.validation_alias:
            case None:
                names.add(f"{settings.model_config['env_prefix']}{name}".upper())
            case AliasChoices(choices=choices):
                names |= {str(choice).upper() for choice in choices}
            case alias:
                names.add(str(alias).upper())
    return names


DEPLOYMENTS = pytest.mark.parametrize("name", ["pg-es-api", "pg-es-sync"])


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_manifest_is_valid(file, version):
    for document in yaml.safe_load_all(file.read_text()):
        kubernetes_validate.validate(document, version, strict=True)


def test_the_documented_order_names_every_file_once():
    documented = re.findall(
        r"^kubectl apply -f k8s/(\S+)$", (ROOT / "docs/deployment.md").read_text(), re.MULTILINE
    )
    assert documented[0] == "namespace.yaml"
    assert sorted(documented) == [file.name for file in FILES]


def test_everything_is_in_the_namespace():
    [namespace] = of_kind("Namespace")
    for manifest in manifests():
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == namespace, manifest["metadata"]["name"]


@DEPLOYMENTS
def test_every_variable_is_known(name):
    assert set(environment(of_kind("Deployment")[name])) - known_variables() == set()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_variable_offered_in_a_comment_is_known(file):
    offered = re.findall(r"^ *# .*?\b([A-Z]+_[A-Z_]+): ", file.read_text(), re.MULTILINE)
    assert set(offered) - known_variables() == set()


def test_every_variable_of_compose_is_known():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name in ("sync", "api"):
        assert set(services[name]["environment"]) - known_variables() == set()


@DEPLOYMENTS
def test_the_settings_accept_the_values(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # no .env here
    variables = environment(of_kind("Deployment")[name])
    for variable in known_variables():
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)

    module = search_service.settings if name == "pg-es-api" else pg_es_pipeline.settings
    for settings in settings_of(module):
        settings()


def test_the_search_service_gets_no_credentials_of_postgresql():
    variables = environment(of_kind("Deployment")["pg-es-api"])
    assert [name for name in variables if name.startswith(("PG_", "DAGSTER_"))] == []


def test_secrets_hold_nothing_but_placeholders():
    for secret in of_kind("Secret").values():
        assert set(secret["stringData"].values()) <= {"REPLACE-ME", ""}


@DEPLOYMENTS
def test_a_deployment_selects_its_own_pods_alone(name):
    spec = of_kind("Deployment")[name]["spec"]
    selected = spec["selector"]["matchLabels"].items()
    matching = [
        other
        for other, deployment in of_kind("Deployment").items()
        if selected <= deployment["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert matching == [name]


def test_the_ingress_leads_to_the_search_service():
    [rule] = of_kind("Ingress")["pg-es-api"]["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    service = of_kind("Service")[backend["name"]]["spec"]
    [port] = service["ports"]
    assert port["name"] == backend["port"]["name"]

    pods = of_kind("Deployment")["pg-es-api"]["spec"]["template"]
    assert service["selector"].items() <= pods["metadata"]["labels"].items()
    ports = {
        p["name"]: p["containerPort"] for p in container({"spec": {"template": pods}})["ports"]
    }
    variables = environment(of_kind("Deployment")["pg-es-api"])
    assert str(ports[port["targetPort"]]) == variables["SEARCH_PORT"]


@DEPLOYMENTS
def test_pods_are_watched_and_bounded(name):
    only = container(of_kind("Deployment")[name])
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(only)
    assert set(only["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in only["resources"]["limits"]
    ports = {port["name"] for port in only["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        for how in ("httpGet", "tcpSocket"):
            if how in only[probe]:
                assert only[probe][how]["port"] in ports


@DEPLOYMENTS
def test_pods_have_no_rights_that_they_do_not_need(name):
    pod = of_kind("Deployment")[name]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert container(of_kind("Deployment")[name])["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    context = pod["securityContext"]
    assert (str(context["runAsUser"]), str(context["runAsGroup"])) == user.groups()


def test_sync_is_never_doubled_and_writes_only_to_volumes():
    deployment = of_kind("Deployment")["pg-es-sync"]
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (
        1,
        {"type": "Recreate"},
    )
    volumes = {v["name"]: v for v in deployment["spec"]["template"]["spec"]["volumes"]}
    mounts = {m["mountPath"]: volumes[m["name"]] for m in container(deployment)["volumeMounts"]}
    variables = environment(deployment)

    claim = mounts[variables["DAGSTER_HOME"]]["persistentVolumeClaim"]["claimName"]
    assert claim in of_kind("PersistentVolumeClaim")
    assert "emptyDir" in mounts["/tmp"]  # noqa: S108
    tables = Path(variables["PG_ES_TABLES"])
    source = of_kind("ConfigMap")[mounts[str(tables.parent)]["configMap"]["name"]]
    assert tables.name in source["data"]


def test_the_example_of_a_tables_file_can_be_read(tmp_path):
    text = of_kind("ConfigMap")["pg-es-tables"]["data"]["tables.yaml"]
    (tmp_path / "tables.yaml").write_text(text)
    [table] = pg_es_pipeline.tables.read_tables(tmp_path / "tables.yaml").tables
    assert table.table == "public.orders"


def test_the_search_service_follows_its_rules_where_they_are_mounted(tmp_path):
    deployment = of_kind("Deployment")["pg-es-api"]
    volumes = {v["name"]: v for v in deployment["spec"]["template"]["spec"]["volumes"]}
    mounts = {m["mountPath"]: m for m in container(deployment)["volumeMounts"]}
    rules = Path(environment(deployment)["SEARCH_ACCESS"])
    mount = mounts[str(rules.parent)]
    assert "subPath" not in mount  # which Kubernetes would not keep up to date
    source = of_kind("ConfigMap")[volumes[mount["name"]]["configMap"]["name"]]
    (tmp_path / "access.yaml").write_text(source["data"][rules.name])
    example = read_rules(tmp_path / "access.yaml")
    assert example.roles
    assert example.anonymous == []


def test_sync_has_the_time_that_its_entry_script_takes_to_stop():
    limits = [int(seconds) for seconds in re.findall(r"^    stop \w+ (\d+)$", ENTRY_SCRIPT, re.M)]
    pod = of_kind("Deployment")["pg-es-sync"]["spec"]["template"]["spec"]
    assert len(limits) == 3
    assert sum(limits) < min(30, pod["terminationGracePeriodSeconds"])


@DEPLOYMENTS
def test_the_image_has_the_version_of_the_project(name):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert container(of_kind("Deployment")[name])["image"] == f"pg-es-sync:{version}"
