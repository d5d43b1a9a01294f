"""Tells a webhook of runs that failed, and of checks that do.

Dagster's own run-failure sensor calls for each run by itself, and goes on to the next one whether
the call succeeded or not. This one tells what has come together in one message, keeps its place
until the message was taken, and leaves some minutes between two messages.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.tags import WILL_RETRY_TAG
from pydantic import BaseModel, ValidationError
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, MaxRetryError

from pg_es_pipeline.orchestration.checks import CHECK_ALL
from pg_es_pipeline.orchestration.names import RANGE_END, RANGE_START, TABLES_TAG
from pg_es_pipeline.settings import AlertSettings, read, secrets

SENSOR = "alert_on_failure"

PAUSE = timedelta(minutes=5)
"""At least so long after one message comes the next: a server that is away fails many runs."""

GIVEN_UP = timedelta(days=1)
"""A failure that no message could tell of for so long is not told any more."""

RUNS_AT_ONCE = 200
SHOWN = 10
"""Failures that a message tells of; of those beyond, only how many there are."""

REASON_LENGTH = 500
"""Characters of an error's message."""

_RETRIES = Retry(
    total=3,
    backoff_factor=0.5,
    status_forcelist=[429, 500, 502, 503, 504],
    allowed_methods=["POST"],
    respect_retry_after_header=False,  # A tick has a minute; the next one tries again.
    raise_on_status=False,
)
_TIMEOUT = Timeout(connect=3, read=5)


class Place(BaseModel):
    """How far the sensor is: its cursor."""

    failed: str | None
    """Of the events that runs have failed."""
    succeeded: str | None
    failing: list[str] = []
    """The checks that were told of, and have not passed since."""
    told_at: float = 0
    """When the last message was taken."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a message says of one run, or check. The names are those of the message."""

    what: str
    tables: str
    partitions: str
    error: str
    run_id: str
    url: str | None

    def __str__(self) -> str:
        where = ", ".join(filter(None, (self.tables, self.partitions)))
        return "\n".join(
            filter(None, (f"{self.what} ({where})" if where else self.what, self.error, self.url))
        )


class Undelivered(Exception):
    """The webhook did not take the message."""


def alert_sensors() -> list[dg.SensorDefinition]:
    """The sensor, where ALERT_WEBHOOK_URL is set; none where it is not. Raises SettingsError."""
    settings = read(AlertSettings)
    return [_alert_sensor(settings)] if settings.alert_webhook_url else []


def _alert_sensor(settings: AlertSettings) -> dg.SensorDefinition:
    @dg.sensor(
        name=SENSOR,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells ALERT_WEBHOOK_URL of runs that failed, and of checks that begin to.",
    )
    def alert_on_failure(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        place, now = _place(context), datetime.now(UTC).timestamp()
        if place is None:
            context.update_cursor(_newest(context.instance).model_dump_json())
            return dg.SkipReason("Tells of what fails from now on.")
        if now - place.told_at < PAUSE.total_seconds():
            return dg.SkipReason(f"Waits until {PAUSE} have passed since the last message.")
        failures = list(_failures(context, place, settings, now))
        if failures:
            try:
                send(settings, failures)
            except Undelivered as error:
                return dg.SkipReason(
                    f"{len(failures):,} failures wait to be told: {error}. Tried again at the next "
                    "tick; see whether ALERT_WEBHOOK_URL is right."
                )
            place.told_at = now
        context.update_cursor(place.model_dump_json())
        return dg.SkipReason(f"{len(failures):,} failures were told.")

    return alert_on_failure


def _place(context: dg.SensorEvaluationContext) -> Place | None:
    try:
        return Place.model_validate_json(context.cursor or "")
    except ValidationError:
        return None


def _newest(instance: dg.DagsterInstance) -> Place:
    return Place(
        failed=instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=1).cursor,
        succeeded=instance.fetch_run_status_changes(
            dg.DagsterEventType.RUN_SUCCESS, limit=1
        ).cursor,
    )


def _failures(
    context: dg.SensorEvaluationContext, place: Place, settings: AlertSettings, now: float
) -> Iterator[Failure]:
    """What has failed since; moves the place on."""
    instance = context.instance
    failed = instance.fetch_run_status_changes(
        dg.DagsterEventType.RUN_FAILURE, limit=RUNS_AT_ONCE, cursor=place.failed, ascending=True
    )
    succeeded = instance.fetch_run_status_changes(
        dg.DagsterEventType.RUN_SUCCESS, limit=RUNS_AT_ONCE, cursor=place.succeeded, ascending=True
    )
    place.failed, place.succeeded = failed.cursor, succeeded.cursor
    records = sorted([*failed.records, *succeeded.records], key=lambda one: one.timestamp)
    ids = [one.run_id for one in records]
    runs = {run.run_id: run for run in instance.get_runs(dg.RunsFilter(run_ids=ids))} if ids else {}
    for record in records:
        run = runs.get(record.run_id)
        if run is None or not _is_ours(context, run):
            continue
        if now - record.timestamp > GIVEN_UP.total_seconds():
            context.log.error(f"{run.job_name}, run {run.run_id}: failed, and nobody was told.")
        elif run.status is dg.DagsterRunStatus.FAILURE and run.tags.get(WILL_RETRY_TAG) != "true":
            yield _of_run(instance, run, settings)
        if run.job_name == CHECK_ALL or run.asset_check_selection:
            yield from _of_checks(instance, run, settings, place)


def _is_ours(context: dg.SensorEvaluationContext, run: dg.DagsterRun) -> bool:
    """Whether the run is of the code location that the sensor is in, where both are known."""
    if run.remote_job_origin is None or context.code_location_origin is None:
        return True
    origin = run.remote_job_origin.repository_origin.code_location_origin
    return bool(origin.location_name == context.code_location_origin.location_name)


def _of_run(instance: dg.DagsterInstance, run: dg.DagsterRun, settings: AlertSettings) -> Failure:
    indices = [run.tags.get(TABLES_TAG, ""), *("/".join(k.path) for k in run.asset_selection or ())]
    ends = filter(None, (run.tags.get(RANGE_START), run.tags.get(RANGE_END)))
    return Failure(
        what=f"{run.job_name} has failed",
        tables=", ".join(dict.fromkeys(filter(None, indices))),
        partitions=run.tags.get("dagster/partition") or "...".join(ends),
        error=shown(_error(instance, run)),
        run_id=run.run_id,
        url=_url(settings, run),
    )


def _error(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """The message of what went wrong in the run: of its steps, or else of itself."""
    messages = []
    for kind in (dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE):
        for record in instance.get_records_for_run(run.run_id, of_type=kind, limit=SHOWN).records:
            event = record.event_log_entry.dagster_event
            assert event is not None
            if event.is_step_failure and (given := event.step_failure_data.user_failure_data):
                messages.append(given.description or "")
            elif event.is_step_failure and (error := event.step_failure_data.error):
                messages.append((error.cause or error).message)
            else:
                messages.append(event.message or "")
        if any(messages):
            break
    return "\n".join(filter(None, messages))


def _of_checks(
    instance: dg.DagsterInstance, run: dg.DagsterRun, settings: AlertSettings, place: Place
) -> Iterator[Failure]:
    """The checks that did not pass, and were not told of since they passed last."""
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    for record in instance.get_records_for_run(run.run_id, of_type=kind).records:
        event = record.event_log_entry.dagster_event
        assert event is not None
        found = event.asset_check_evaluation_data
        name = found.asset_check_key.to_user_string()
        if found.passed or found.severity is not dg.AssetCheckSeverity.ERROR:
            place.failing = [one for one in place.failing if one != name]
        elif name not in place.failing:
            place.failing.append(name)
            yield Failure(
                what=f"the check {found.check_name} does not pass",
                tables="/".join(found.asset_key.path),
                partitions=found.partition or "",
                error=shown(found.description or ""),
                run_id=run.run_id,
                url=_url(settings, run),
            )


def _url(settings: AlertSettings, run: dg.DagsterRun) -> str | None:
    return f"{settings.dagster_url}/runs/{run.run_id}" if settings.dagster_url else None


def shown(message: str) -> str:
    """A message without the credentials that it may quote, and not too long."""
    for secret in secrets():
        message = message.replace(secret, "***")
    message = re.sub(r"(\w://)[^/\s@]+@", r"\1***@", message).strip()
    return message if len(message) <= REASON_LENGTH else f"{message[:REASON_LENGTH]} …"


def message(failures: Sequence[Failure]) -> dict[str, object]:
    """What is sent: a text for people, as Slack and its like take it, and the same for programs."""
    told, more = failures[:SHOWN], len(failures) - SHOWN
    parts = [*map(str, told), *([f"and {more:,} more"] if more > 0 else [])]
    text = "\n\n".join(parts)
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, escaped)
    return {"text": text, "count": len(failures), "failures": list(map(asdict, told))}


def send(settings: AlertSettings, failures: Sequence[Failure]) -> None:
    """Raises Undelivered, whose message does not tell the address."""
    assert settings.alert_webhook_url is not None
    try:
        with PoolManager(retries=_RETRIES, timeout=_TIMEOUT) as pool:
            answer = pool.request(
                "POST",
                settings.alert_webhook_url.get_secret_value(),
                body=json.dumps(message(failures)),
                headers={"Content-Type": "application/json"},
                redirect=False,
            )
    except HTTPError as error:
        why = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        raise Undelivered(f"the webhook cannot be reached ({type(why).__name__})") from None
    if not 200 <= answer.status < 300:
        raise Undelivered(f"the webhook answers with the status {answer.status}")
