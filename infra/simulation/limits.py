"""Which limit is reached first: the peak demand of a day compared with each limit."""

from dataclasses import dataclass

import numpy as np

from infra.simulation.play import End, Played
from infra.simulation.policy import Policy
from infra.simulation.traffic import DAY, Floats

BUSIEST_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit."""

    name: str
    asked: float
    available: float
    raised_by: str

    @property
    def share(self) -> float:
        """The fraction of it that is used; above 1 the limit is exceeded."""
        return self.asked / self.available


def bounds(played: Played, policy: Policy | None = None) -> list[Bound]:
    """Return all limits, of the simulated policy or of another, the one that is reached first at the head."""
    policy, account = policy or played.setup.policy, played.setup.assumptions.limits
    workers = workers_asked(played)
    requests = busiest_rate(played.day.arrivals, 10)
    found = [
        Bound("workers", workers, policy.scaling.max_tasks, "`MaxWorkers`"),
        Bound(
            "GPU instances' vCPUs",
            workers * account.vcpus_per_instance,
            account.gpu_vcpus,
            "EC2's quota for G and VT",
        ),
        Bound(
            "functions that wait",
            most_waiting_functions(played),
            policy.limits.function_concurrency or account.account_concurrency,
            "`HttpConcurrency`, then Lambda's quota" if policy.limits.function_concurrency else "Lambda's quota",
        ),
        Bound(
            "requests a second",
            requests,
            policy.limits.requests_per_second or account.api_requests_per_second,
            "`RequestsPerSecond`",
        ),
        Bound(
            "messages in flight",
            max((minute.in_hand for minute in played.minutes), default=0),
            account.sqs_in_flight,
            "no setting",
        ),
    ]
    return sorted(found, key=lambda bound: -bound.share)


def workers_asked(played: Played) -> float:
    """Return the number of GPUs that the busiest minutes use fully."""
    day, setup = played.day, played.setup
    edges = np.arange(0, DAY + BUSIEST_SECONDS, BUSIEST_SECONDS)
    taken = played.ends != End.REFUSED
    audio, _ = np.histogram(day.arrivals[taken], edges, weights=day.audio_seconds[taken])
    busiest = float(audio.max(initial=0)) / BUSIEST_SECONDS
    return busiest / setup.speed.real_time(setup.policy.scaling.batch_size)


def busiest_rate(arrivals: Floats, seconds: float) -> float:
    """Return the arrivals per second in the busiest window of `seconds`."""
    counts, _ = np.histogram(arrivals, np.arange(0, DAY + seconds, seconds))
    return float(counts.max(initial=0)) / seconds


def most_waiting_functions(played: Played) -> float:
    """Return the maximum number of functions that wait for previews at the same time."""
    limits, share = played.setup.policy.limits, played.setup.assumptions.traffic.synchronous_share
    begin = played.day.arrivals
    if not len(begin):
        return 0.0
    waits = np.minimum(np.nan_to_num(played.answered, nan=limits.preview_wait_seconds), limits.preview_wait_seconds)
    times = np.concatenate([begin, begin + waits])
    changes = np.concatenate([np.ones(len(begin)), -np.ones(len(begin))])
    return share * float(np.cumsum(changes[np.argsort(times, kind="stable")]).max())
