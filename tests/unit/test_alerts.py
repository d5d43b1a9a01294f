"""Failures are told to a webhook: each once, together, and without what is secret."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from pg_es_pipeline.errors import SettingsError
from pg_es_pipeline.orchestration import alerts
from pg_es_pipeline.orchestration.alerts import Place, alert_sensors
from pg_es_pipeline.orchestration.checks import CHECK_ALL
from pg_es_pipeline.orchestration.names import RANGE_END, RANGE_START, TABLES_TAG

PATH = "/services/T0/B0/secret-token"


class Webhook(ThreadingHTTPServer):
    """Keeps what it is told; answers with these statuses first, and with 200 then."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.statuses: list[int] = []
        self.asked = 0
        self.told: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{PATH}"


class Answer(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == 200:
            self.server.told.append(said)
        self.send_response(status)
        if status in {302, 307}:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


class Deployment:
    """The sensor and an instance, which runs of a job are recorded in."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        [self.sensor] = alert_sensors()
        self.cursor: str | None = None
        self.tick()

    def tick(self, location: str | None = None) -> str:
        """`location`: the code location that the sensor is in."""
        with dg.build_sensor_context(self.instance, self.cursor) as context:
            context._code_location_origin = _origin(location) if location else None
            told = self.sensor.evaluate_tick(context)
        self.cursor = told.cursor or self.cursor
        return str(told.skip_message)

    def after_the_pause(self) -> str:
        place = Place.model_validate_json(self.cursor or "")
        self.cursor = place.model_copy(update={"told_at": 0}).model_dump_json()
        return self.tick()

    def fail(self, message: str, job: str = "load_orders", **tags: str) -> str:
        @dg.job(name=job)
        def failing() -> None:
            @dg.op
            def step() -> None:
                raise dg.Failure(message, allow_retries=False)

            step()

        return failing.execute_in_process(
            instance=self.instance, raise_on_error=False, tags=tags
        ).run_id

    def fail_in(self, location: str) -> None:
        """A run of a job in this code location fails before it begins."""
        repository = RemoteRepositoryOrigin(_origin(location), "__repository__")
        run = dg.DagsterRun(
            job_name="load_orders",
            status=dg.DagsterRunStatus.STARTING,
            remote_job_origin=RemoteJobOrigin(repository, "load_orders"),
        )
        self.instance.add_run(run)
        self.instance.report_run_failed(run, f"in {location}")

    def check(self, *, passed: bool, severity: dg.AssetCheckSeverity) -> None:
        @dg.job(name=CHECK_ALL)
        def checking() -> None:
            @dg.op
            def step(context: dg.OpExecutionContext) -> None:
                evaluation: Any = dg.AssetCheckEvaluation(
                    asset_key=dg.AssetKey("orders"),
                    check_name="row_parity",
                    passed=passed,
                    severity=severity,
                    description="public.orders: 30 rows, 29 documents.",
                )
                context.log_event(evaluation)

            step()

        checking.execute_in_process(instance=self.instance)


def _origin(location: str) -> RegisteredCodeLocationOrigin:
    return RegisteredCodeLocationOrigin(location)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def deployment(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    monkeypatch.setenv("ALERT_WEBHOOK_URL", webhook.url)
    monkeypatch.setenv("DAGSTER_URL", "https://dagster.example.com/")
    monkeypatch.setattr(alerts._RETRIES, "backoff_factor", 0.001)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Deployment(instance)


def test_without_a_webhook_there_is_no_sensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERT_WEBHOOK_URL", "")
    assert alert_sensors() == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALERT_WEBHOOK_URL", "hooks.example.com"),
        ("DAGSTER_URL", "https://user:word@pages.example.org"),
        ("DAGSTER_URL", "pages.example.org"),
    ],
)
def test_an_address_that_is_none_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"{variable} is not valid") as caught:
        alert_sensors()
    assert value not in str(caught.value)


def test_a_failed_run_is_told_once_with_what_it_loaded_and_a_link(
    deployment: Deployment, webhook: Webhook
) -> None:
    run_id = deployment.fail(
        "public.orders: 5 rows were refused. Correct them.",
        **{TABLES_TAG: "orders", RANGE_START: "2024-01", RANGE_END: "2024-03"},
    )
    deployment.tick()
    [told] = webhook.told
    assert told["failures"] == [
        {
            "what": "load_orders has failed",
            "tables": "orders",
            "partitions": "2024-01...2024-03",
            "error": "public.orders: 5 rows were refused. Correct them.",
            "run_id": run_id,
            "url": f"https://dagster.example.com/runs/{run_id}",
        }
    ]
    for said in ("load_orders", "2024-01...2024-03", "5 rows were refused", run_id):
        assert said in told["text"]
    assert "no failures" not in deployment.after_the_pause()
    assert len(webhook.told) == 1


def test_what_failed_before_the_sensor_began_is_not_told(
    deployment: Deployment, webhook: Webhook
) -> None:
    deployment.fail("long ago")
    deployment.cursor = None
    deployment.tick()
    deployment.tick()
    assert webhook.told == []


def test_many_failures_are_one_message(deployment: Deployment, webhook: Webhook) -> None:
    for number in range(12):
        deployment.fail(f"failure {number}.")
    deployment.tick()
    deployment.fail("one more.")
    assert "Waits until" in deployment.tick()
    [told] = webhook.told
    assert told["count"] == 12
    assert len(told["failures"]) == 10
    assert "and 2 more" in told["text"]
    deployment.after_the_pause()
    assert [one["error"] for one in webhook.told[1]["failures"]] == ["one more."]


def test_a_webhook_that_is_busy_is_asked_again_at_once(
    deployment: Deployment, webhook: Webhook
) -> None:
    webhook.statuses = [503, 429]
    deployment.fail("no")
    deployment.tick()
    assert (webhook.asked, len(webhook.told)) == (3, 1)


@pytest.mark.parametrize("status", [500, 404, 302, 307])
def test_a_failure_that_could_not_be_told_is_told_later(
    deployment: Deployment, webhook: Webhook, status: int
) -> None:
    webhook.statuses = [status] * 4
    deployment.fail("first")
    said = deployment.tick()
    assert f"answers with the status {status}" in said
    assert "ALERT_WEBHOOK_URL" in said
    assert webhook.told == []
    webhook.statuses = []
    deployment.fail("second")
    deployment.tick()
    [told] = webhook.told
    assert [one["error"] for one in told["failures"]] == ["first", "second"]


def test_a_webhook_that_is_away_fails_no_tick_and_is_not_named(
    deployment: Deployment, webhook: Webhook
) -> None:
    webhook.server_close()
    deployment.fail("no")
    said = deployment.tick()
    assert "cannot be reached" in said
    assert "secret-token" not in said


def test_a_failure_that_nobody_could_be_told_of_for_a_day_is_let_go(
    deployment: Deployment, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.fail("no")
    monkeypatch.setattr(alerts, "GIVEN_UP", -alerts.PAUSE)
    deployment.tick()
    monkeypatch.undo()
    deployment.tick()
    assert webhook.asked == 0


def test_credentials_and_endless_messages_are_not_told(
    deployment: Deployment, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ES_HOST", "es")
    monkeypatch.setenv("ES_API_KEY", "k3y-of-es")
    deployment.fail(f"k3y-of-es at postgresql://me:word@db/x, {PATH} <b> " + "x" * 5000)
    deployment.tick()
    [told] = webhook.told
    for secret in ("k3y-of-es", "word@"):
        assert secret not in json.dumps(told)
    assert "postgresql://***@db/x" in told["text"]
    assert "&lt;b&gt;" in told["text"]
    assert len(told["text"]) < 1000


def test_a_check_is_told_when_it_begins_to_fail(deployment: Deployment, webhook: Webhook) -> None:
    error, warn = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
    for passed, severity in [(False, warn), (False, error), (False, error)]:
        deployment.check(passed=passed, severity=severity)
        deployment.after_the_pause()
    [told] = webhook.told
    [failure] = told["failures"]
    assert failure["what"] == "the check row_parity does not pass"
    assert failure["tables"] == "orders"
    assert failure["error"] == "public.orders: 30 rows, 29 documents."
    for passed in (True, False):
        deployment.check(passed=passed, severity=error)
        deployment.after_the_pause()
    assert len(webhook.told) == 2


def test_a_run_that_is_tried_again_is_not_told(deployment: Deployment, webhook: Webhook) -> None:
    deployment.fail("no", **{"dagster/will_retry": "true"})
    deployment.tick()
    assert webhook.told == []


def test_what_fails_in_another_code_location_is_not_told(
    deployment: Deployment, webhook: Webhook
) -> None:
    for location in ("billing", "search"):
        deployment.fail_in(location)
    deployment.tick("search")
    [told] = webhook.told
    assert [one["error"] for one in told["failures"]] == ["in search"]
