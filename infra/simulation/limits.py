"""Which limit is reached first: the peak demand of a day compared with each limit."""

from dataclasses import dataclass

import numpy as np

from infra.simulation.policy import Policy
from infra.simulation.simulated_day import DayResult, End
from infra.simulation.traffic import DAY, Floats

BUSIEST_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit."""

    name: str
    needed: float
    available: float
    raised_by: str

    @property
    def share(self) -> float:
        """The fraction of it that is used; above 1 the limit is exceeded."""
        return self.needed / self.available


def limits_by_use(result: DayResult, policy: Policy | None = None) -> list[Limit]:
    """Return all limits, of the simulated policy or of another, sorted by the share that is used."""
    policy, account = policy or result.setup.policy, result.setup.assumptions.limits
    workers = workers_needed(result)
    requests = busiest_rate(result.day.arrivals, 10)
    found = [
        Limit("workers", workers, policy.scaling.max_tasks, "`MaxWorkers`"),
        Limit(
            "GPU instances' vCPUs",
            workers * account.vcpus_per_instance,
            account.gpu_vcpus,
            "EC2's quota for G and VT",
        ),
        Limit(
            "waiting functions",
            most_waiting_functions(result),
            policy.limits.function_concurrency or account.account_concurrency,
            "`HttpConcurrency`, then Lambda's quota" if policy.limits.function_concurrency else "Lambda's quota",
        ),
        Limit(
            "requests per second",
            requests,
            policy.limits.requests_per_second or account.api_requests_per_second,
            "`RequestsPerSecond`",
        ),
        Limit(
            "messages in flight",
            max((minute.running_jobs for minute in result.minutes), default=0),
            account.sqs_in_flight,
            "nothing",
        ),
    ]
    return sorted(found, key=lambda limit: -limit.share)


def workers_needed(result: DayResult) -> float:
    """Return the number of GPUs that the busiest minutes use fully."""
    day, setup = result.day, result.setup
    edges = np.arange(0, DAY + BUSIEST_SECONDS, BUSIEST_SECONDS)
    accepted = result.ends != End.REJECTED
    audio, _ = np.histogram(day.arrivals[accepted], edges, weights=day.audio_seconds[accepted])
    busiest = float(audio.max(initial=0)) / BUSIEST_SECONDS
    return busiest / setup.speed.real_time(setup.policy.scaling.batch_size)


def busiest_rate(arrivals: Floats, seconds: float) -> float:
    """Return the arrivals per second in the busiest window of `seconds`."""
    counts, _ = np.histogram(arrivals, np.arange(0, DAY + seconds, seconds))
    return float(counts.max(initial=0)) / seconds


def most_waiting_functions(result: DayResult) -> float:
    """Return the maximum number of functions that wait for previews at the same time."""
    limits, share = result.setup.policy.limits, result.setup.assumptions.traffic.synchronous_share
    begin = result.day.arrivals
    if not len(begin):
        return 0.0
    waits = np.minimum(np.nan_to_num(result.latency, nan=limits.preview_wait_seconds), limits.preview_wait_seconds)
    times = np.concatenate([begin, begin + waits])
    changes = np.concatenate([np.ones(len(begin)), -np.ones(len(begin))])
    return share * float(np.cumsum(changes[np.argsort(times, kind="stable")]).max())
