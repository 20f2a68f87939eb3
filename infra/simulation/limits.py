"""Which limit is met first: what a day asks for at its busiest, beside what there is."""

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
        """How much of it is used; above 1 it does not suffice."""
        return self.asked / self.available


def bounds(played: Played, policy: Policy | None = None) -> list[Bound]:
    """Give every limit, of the policy that was played or of another, the one that is met first at the head."""
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
    """Tell how many GPUs the busiest minutes keep wholly busy."""
    day, setup = played.day, played.setup
    edges = np.arange(0, DAY + BUSIEST_SECONDS, BUSIEST_SECONDS)
    taken = played.ends != End.REFUSED
    audio, _ = np.histogram(day.arrivals[taken], edges, weights=day.audio_seconds[taken])
    busiest = float(audio.max(initial=0)) / BUSIEST_SECONDS
    return busiest / setup.speed.real_time(setup.policy.scaling.batch_size)


def busiest_rate(arrivals: Floats, seconds: float) -> float:
    """Tell how many come in a second, in the busiest so many."""
    counts, _ = np.histogram(arrivals, np.arange(0, DAY + seconds, seconds))
    return float(counts.max(initial=0)) / seconds


def most_waiting_functions(played: Played) -> float:
    """Tell how many functions wait for their previews at the same time, at most."""
    limits, share = played.setup.policy.limits, played.setup.assumptions.traffic.synchronous_share
    begin = played.day.arrivals
    if not len(begin):
        return 0.0
    waits = np.minimum(np.nan_to_num(played.answered, nan=limits.preview_wait_seconds), limits.preview_wait_seconds)
    times = np.concatenate([begin, begin + waits])
    changes = np.concatenate([np.ones(len(begin)), -np.ones(len(begin))])
    return share * float(np.cumsum(changes[np.argsort(times, kind="stable")]).max())
