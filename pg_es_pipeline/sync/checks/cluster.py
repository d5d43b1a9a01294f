"""The Elasticsearch cluster: version, health, privileges, disk space."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from elasticsearch import ApiError, AuthorizationException, Elasticsearch

from pg_es_pipeline.sync import checkpoints, dead_letters
from pg_es_pipeline.sync.checks.finding import ELASTICSEARCH, Finding
from pg_es_pipeline.sync.elastic import PASSING
from pg_es_pipeline.tables import Table

VERSION = 8
"""The major version that the client speaks."""

_OURS = "pg-es-"
_DISK = "cluster.routing.allocation.disk"
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_PRIVILEGES = ["manage", "read", "write"]


def findings(client: Elasticsearch, tables: Sequence[Table]) -> Iterator[Finding]:
    """What is amiss with the cluster as a whole."""
    yield from _version(client)
    yield from _privileges(client, tables)
    yield from _health(client, tables)
    yield from _disk(client)


def _version(client: Elasticsearch) -> Iterator[Finding]:
    try:
        version = str(client.info()["version"]["number"])
    except ApiError as error:
        if error.meta.status in PASSING:
            raise
        return
    major = int(version.partition(".")[0])
    if major < VERSION:
        yield Finding(
            "error",
            ELASTICSEARCH,
            f"The cluster's version is {version}.",
            f"The client speaks {VERSION}.x: requests fail.",
            f"Upgrade the cluster to {VERSION}.x.",
        )
    elif major > VERSION:
        yield Finding(
            "note",
            ELASTICSEARCH,
            f"The cluster's version is {version}.",
            f"It is spoken to as {VERSION}.x, which it understands; nothing here was tried on it.",
        )


def _privileges(client: Elasticsearch, tables: Sequence[Table]) -> Iterator[Finding]:
    names = [f"{_OURS}*"]
    for table in tables:
        names += [table.index, f"{table.index}-0*", f"{table.index}.*"]
    wanted = {"names": names, "privileges": _PRIVILEGES}
    try:
        answer = client.security.has_privileges(cluster=["monitor"], index=[wanted])
    except ApiError as error:
        if error.meta.status in PASSING:
            raise
        return  # A node without security: everybody may do everything.
    lacking = [
        f"{', '.join(p for p, held in privileges.items() if not held)} on {name}"
        for name, privileges in answer["index"].items()
        if not all(privileges.values())
    ]
    if not answer["cluster"]["monitor"]:
        lacking.append("monitor on the cluster")
    if lacking:
        role = json.dumps({"cluster": ["monitor"], "indices": [wanted]})
        yield Finding(
            "error",
            ELASTICSEARCH,
            f"The user {answer['username']} lacks privileges: {'; '.join(lacking)}.",
            "Loads fail, or health cannot be watched.",
            f"PUT _security/role/pg_es_pipeline {role}",
        )


def _health(client: Elasticsearch, tables: Sequence[Table]) -> Iterator[Finding]:
    try:
        health = client.cluster.health(level="indices")
    except AuthorizationException:
        return
    if health["status"] != "red":
        return
    red = sorted(name for name, index in health["indices"].items() if index["status"] == "red")
    ours = [name for name in red if _is_ours(name, tables)]
    if ours:
        yield Finding(
            "error",
            ELASTICSEARCH,
            f"The cluster's health is red: {', '.join(ours)} lacks a primary shard.",
            "Loads wait in vain, and searches miss documents.",
            "GET _cluster/allocation/explain",
        )
    else:
        yield Finding(
            "note",
            ELASTICSEARCH,
            f"The cluster's health is red, by indices of others: {', '.join(red[:5])}.",
            "The pipeline's own indices are whole.",
            "GET _cluster/allocation/explain",
        )


def _is_ours(name: str, tables: Sequence[Table]) -> bool:
    return name in (checkpoints.INDEX, dead_letters.INDEX) or any(
        re.fullmatch(rf"{re.escape(table.index)}(-\d+)?", name) for table in tables
    )


def _disk(client: Elasticsearch) -> Iterator[Finding]:
    try:
        settings = client.cluster.get_settings(include_defaults=True, flat_settings=True).body
        nodes = client.nodes.stats(metric="fs", filter_path="nodes.*.name,nodes.*.fs.total").body
    except ApiError as error:
        if error.meta.status in PASSING:
            raise
        return  # Not everybody may ask.
    effective: dict[str, Any] = {}
    for layer in ("defaults", "persistent", "transient"):
        effective |= settings.get(layer, {})
    if str(effective.get(f"{_DISK}.threshold_enabled", "true")) == "false":
        return
    for node in nodes.get("nodes", {}).values():
        yield from _node_disk(effective, node["name"], node["fs"]["total"])


def _node_disk(
    settings: Mapping[str, Any], node: str, disk: Mapping[str, int]
) -> Iterator[Finding]:
    total, free = disk["total_in_bytes"], disk["available_in_bytes"]
    space = f"{free / 1e9:,.1f} GB of {total / 1e9:,.1f} GB are free"
    remedy = "Free space on the node, or add one. GET _cat/allocation?v"
    if free < _least_free(settings, "flood_stage", total):
        yield Finding(
            "error",
            ELASTICSEARCH,
            f"The disk of the node {node} is past the flood stage: {space}.",
            "Elasticsearch makes its indices read-only: loads wait in vain.",
            remedy,
        )
    elif free < _least_free(settings, "high", total):
        yield Finding(
            "warning",
            ELASTICSEARCH,
            f"The disk of the node {node} is past the high watermark: {space}.",
            "New indices find no place there; at the flood stage its indices become read-only.",
            remedy,
        )


def _least_free(settings: Mapping[str, Any], stage: str, total: int) -> float:
    """Bytes that have to stay free. A watermark is a share of the disk that may be used, with the
    free space that is enough in any case; or the free space itself.

    https://www.elastic.co/docs/reference/elasticsearch/configuration-reference/cluster-level-shard-allocation-routing-settings
    """
    value = str(settings.get(f"{_DISK}.watermark.{stage}", "100%"))
    if (number := _bytes(value)) is not None:
        return number
    share = float(value[:-1]) / 100 if value.endswith("%") else float(value)
    headroom = _bytes(str(settings.get(f"{_DISK}.watermark.{stage}.max_headroom", "")))
    least = total * (1 - share)
    return least if headroom is None or headroom < 0 else min(least, headroom)


def _bytes(value: str) -> int | None:
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)([kmgtp]?)b", value.lower())
    return int(float(match[1]) * 1024 ** _UNITS[match[2]]) if match else None
