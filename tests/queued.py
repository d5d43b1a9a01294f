"""Runs that wait in the queue."""

import dagster as dg
from dagster import DagsterRunStatus
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)


def queued_run(tags: dict[str, str]) -> dg.DagsterRun:
    """A run as whoever submits one makes it: Dagster wants to know of a code location."""
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository")
    return dg.DagsterRun(
        "load",
        tags=tags,
        status=DagsterRunStatus.QUEUED,
        remote_job_origin=RemoteJobOrigin(repository, "load"),
    )
