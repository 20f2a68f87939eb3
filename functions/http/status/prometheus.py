"""The service status in Prometheus' text format, version 0.0.4."""

from collections.abc import Iterator, Mapping

from functions.http.status.job_statistics import JobStatistics, Spread
from functions.http.status.service_status import ServiceStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Name, description and samples (labels and value) of each metric.
Samples = list[tuple[Mapping[str, str], float]]
Metric = tuple[str, str, Samples]


def to_text(status: ServiceStatus) -> str:
    """Return all metrics with a known value; others are omitted."""
    return "".join(_lines(*metric) for metric in _metrics(status) if metric[2])


def _lines(name: str, meaning: str, samples: Samples) -> str:
    full = f"voice_cloning_{name}"
    head = f"# HELP {full} {meaning}\n# TYPE {full} gauge\n"
    return head + "".join(f"{full}{_labels(labels)} {value:g}\n" for labels, value in samples)


def _labels(labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _metrics(status: ServiceStatus) -> Iterator[Metric]:
    yield "up", "Whether the status is ok", [({}, status.status == "ok")]
    queues = [(name, queue) for name, queue in status.queues.items() if queue]
    yield "queue_waiting", "Messages that wait for a consumer", [({"queue": n}, q.waiting) for n, q in queues]
    yield (
        "queue_taken",
        "Messages that a consumer has received and not deleted",
        [({"queue": n}, q.taken) for n, q in queues],
    )
    unreachable: Samples = [({"dependency": name}, 1) for name in status.unreachable]
    yield "unreachable", "Dependencies that do not respond", unreachable
    full: Samples = [({"dependency": name}, 1) for name in status.full]
    yield "full", "Storages without space", full
    if status.worker is not None:
        yield "worker_ready", "Whether the worker is ready", [({}, status.worker == "ready")]
    if status.sweep is not None:
        yield "sweep_last_timestamp_seconds", "Time of the last sweep", [({}, status.sweep.last_at.timestamp())]
        yield "sweep_lag_seconds", "Delay of the next sweep", [({}, status.sweep.lag_seconds)]
    if status.jobs is not None:
        yield from _of_jobs(status.jobs)
    versions: Samples = [(status.versions.model_dump(), 1)]
    yield "build_info", "Versions", versions


def _of_jobs(jobs: JobStatistics) -> Iterator[Metric]:
    yield "jobs_made", "Jobs of the last hour", [({}, jobs.made)]
    yield "jobs_open", "Jobs of the last hour that have not ended", [({}, jobs.open)]
    outcomes: Samples = [({"outcome": outcome}, count) for outcome, count in sorted(jobs.outcomes.items())]
    yield "jobs_ended", "Jobs of the last hour by outcome", outcomes
    yield "job_wait_seconds", "Time in the queue", _quantiles(jobs.wait_seconds)
    yield "job_synthesis_seconds", "Duration of the synthesis", _quantiles(jobs.synthesis_seconds)
    yield "job_speed", "Seconds of audio per second of synthesis", _quantiles(jobs.speed)
    yield "audio_seconds", "Audio generated in the last hour", [({}, jobs.audio_seconds)]


def _quantiles(spread: Spread | None) -> Samples:
    if spread is None:
        return []
    return [({"quantile": "0.5"}, spread.p50), ({"quantile": "0.95"}, spread.p95), ({"quantile": "1"}, spread.max)]
