"""Simulated days: no job is lost, no wait is impossibly short, and the bill is consistent."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simpy

from infra.simulation import traffic
from infra.simulation.assumptions import load_assumptions, load_prices
from infra.simulation.cost import bill
from infra.simulation.job_queue import FairQueue, FifoQueue, InFlightLimit
from infra.simulation.limits import busiest_rate, limits_by_use, most_waiting_functions
from infra.simulation.policy import Policy
from infra.simulation.simulated_day import DayResult, End, Setup, simulate_day
from infra.simulation.speed import Speed, load_speed
from infra.simulation.template import read_policy
from infra.simulation.traffic import HOUR, Day
from infra.simulation.worker import Worker

ROOT = Path(__file__).parents[3]
ASSUMPTIONS = load_assumptions()
PRICES = load_prices()
SPEED = load_speed(ROOT / "docs" / "no-such-folder", ASSUMPTIONS.speed)
FLOOD = traffic.noisy_tenant(ASSUMPTIONS.traffic, 1_000, 400, tenants=10)


@cache
def policy_with(parameters: tuple[tuple[str, Any], ...] = ()) -> Policy:
    return read_policy(ROOT, dict(parameters))


def simulate(day: Day, parameters: dict[str, Any] | None = None, *, speed: float = 1, **setup: Any) -> DayResult:
    policy = policy_with(tuple((parameters or {}).items()))
    return simulate_day(day, Setup(policy, ASSUMPTIONS, SPEED.times(speed), **setup))


def burst(count: int = 300) -> Day:
    return traffic.burst_from_zero(ASSUMPTIONS.traffic, count)


def cold_start_seconds() -> float:
    """Return the minimum time from the first message to the start of synthesis."""
    aws = ASSUMPTIONS.aws
    return aws.metric_lag_seconds + aws.instance_launch_seconds + aws.image_pull_seconds + aws.model_load_seconds


# the whole


@pytest.mark.parametrize(
    ("day", "setup"),
    [
        (burst(), {}),
        (traffic.steady(ASSUMPTIONS.traffic, 2_000), {}),
        (FLOOD, {"is_fair": True, "is_limited": True}),
        (FLOOD, {"is_fair": True}),
    ],
    ids=["burst", "steady", "fair and limited", "fair"],
)
def test_preview_ends_in_one_way(day: Day, setup: dict[str, Any]) -> None:
    result = simulate(day, **setup)
    assert result.count(End.PENDING) == 0
    assert sum(result.count(end) for end in End) == len(day)
    assert np.isfinite(result.latency[result.ends == End.COMPLETED]).all()
    assert np.isnan(result.latency[result.ends != End.COMPLETED]).all()
    assert result.minutes[-1].waiting == result.minutes[-1].running_jobs == 0


def test_play_is_deterministic() -> None:
    one, other = simulate(burst()), simulate(burst())
    assert np.array_equal(one.latency, other.latency)
    assert one.instance_seconds == other.instance_seconds


def test_first_preview_waits_for_cold_start() -> None:
    result = simulate(burst())
    assert result.queue_time[0] >= cold_start_seconds()
    assert cold_start_seconds() < result.queue_time[0] < 10 * 60


def test_min_workers_avoids_cold_start() -> None:
    assert simulate(burst(20), {"MinWorkers": 1}).queue_time[0] == 0


def test_inactive_queue_delays_start() -> None:
    touched, forgotten = simulate(burst(1)), simulate(burst(1), queue_is_kept_active=False)
    more = forgotten.queue_time[0] - touched.queue_time[0]
    assert 0 < more <= ASSUMPTIONS.aws.inactive_queue_lag_seconds + 60


@pytest.mark.parametrize("fills_empty_series", [True, False])
@pytest.mark.parametrize("reports_zeros", [True, False])
@pytest.mark.parametrize("count", [1, 300])
def test_workers_start_with_any_aws_reading(fills_empty_series: bool, reports_zeros: bool, count: int) -> None:
    result = simulate(burst(count), fills_empty_series=fills_empty_series, reports_zeros=reports_zeros)
    assert result.count(End.COMPLETED) == count
    assert cold_start_seconds() < result.queue_time[0] < 10 * 60
    assert result.minutes[-1].instances == 0


def test_more_gpus_reduce_waiting() -> None:
    peak = traffic.tenfold_peak(ASSUMPTIONS.traffic, 4_000)
    few, many = (simulate(peak, {"MinWorkers": count, "MaxWorkers": count}, speed=0.4) for count in (1, 3))
    fast = simulate(peak, {"MinWorkers": 1, "MaxWorkers": 1}, speed=1.6)
    assert few.queue_time.max() > 60
    for better in (many, fast):
        assert better.queue_time.mean() <= few.queue_time.mean()
        assert np.percentile(better.latency, 99) <= np.percentile(few.latency, 99)


def test_expired_jobs_are_not_synthesized() -> None:
    result = simulate(burst(600), {"MaxWorkers": 1}, speed=0.015)
    assert result.count(End.EXPIRED) > 0
    assert result.queue_time[result.ends == End.COMPLETED].max() <= 3600


def test_idle_gpus_are_stopped() -> None:
    result = simulate(burst())
    assert result.minutes[-1].instances == 0
    assert result.most_instances <= policy_with().scaling.max_tasks
    assert result.busy_seconds <= result.gpu_seconds <= result.instance_seconds


def test_regular_jobs_keep_worker_running() -> None:
    times = np.arange(9 * HOUR, 12 * HOUR, 120.0)
    result = simulate(traffic.make_day("now and then", times, ASSUMPTIONS.traffic))
    settled = result.day.arrivals > 9.5 * HOUR
    assert result.queue_time[settled].max() == 0


def test_small_burst_uses_few_gpus() -> None:
    result = simulate(traffic.burst_from_zero(ASSUMPTIONS.traffic, 30, 1), {"MaxWorkers": 24})
    assert result.most_instances <= 3


def test_spot_interruptions_lose_no_job() -> None:
    often = ASSUMPTIONS.aws.model_copy(update={"spot_interruptions_per_instance_hour": 6.0})
    setup = Setup(policy_with((("Spot", "on"),)), ASSUMPTIONS.model_copy(update={"aws": often}), SPEED)
    result = simulate_day(traffic.steady(ASSUMPTIONS.traffic, 3_000), setup)
    assert result.interruptions > 5
    assert result.count(End.COMPLETED) == len(result.day)


# tenants


def test_fair_queue_protects_other_owners() -> None:
    def others_wait(**setup: Any) -> float:
        result = simulate(FLOOD, {"MinWorkers": 1, "MaxWorkers": 1}, **setup)
        after = (FLOOD.arrivals > 12 * HOUR) & (FLOOD.arrivals < 12.5 * HOUR) & (FLOOD.owners != 0)
        return float(np.percentile(result.queue_time[after], 95))

    bare, fair, both = others_wait(), others_wait(is_fair=True), others_wait(is_fair=True, is_limited=True)
    assert both <= fair < bare / 2


def test_in_flight_limit_per_owner() -> None:
    limit = InFlightLimit([0, 0, 1], 1)
    assert [limit.admit(job) for job in (0, 1, 2)] == [True, False, True]
    limit.release(0)
    assert limit.admit(1)


@pytest.mark.parametrize("make", [lambda _: FifoQueue(), FairQueue])
def test_queue_returns_each_job_once(make: Callable[[list[int]], FifoQueue | FairQueue]) -> None:
    owners = [job % 3 for job in range(30)]
    queue = make(owners)
    for job in range(30):
        queue.put(job)
    taken = [queue.receive() for _ in range(30)]
    assert sorted(job for job in taken if job is not None) == list(range(30))
    assert (queue.receive(), len(queue)) == (None, 0)


def test_fair_queue_prefers_idle_owners() -> None:
    owners = [0] * 20 + [1, 2]
    queue = FairQueue(owners)
    for job in range(10):
        queue.put(job)
    assert [queue.receive() for _ in range(8)] == list(range(8))
    for job in range(10, 22):
        queue.put(job)
    assert [queue.receive(), queue.receive(), queue.receive()] == [20, 21, 8]


# one worker


def completion_times(frames: list[int], speed: Speed, slots: int = 8) -> list[float]:
    env = simpy.Environment()
    at = [math.nan] * len(frames)

    def note(_worker: Worker, jobs: list[int]) -> None:
        for job in jobs:
            at[job] = env.now

    worker = Worker(env, speed, slots, note)
    worker.begin(list(enumerate(frames)))
    env.run()
    return at


def test_frame_duration_depends_on_batch() -> None:
    speed = Speed("some", base=0.1, per_stream=0.01, source="")
    assert completion_times([10], speed) == pytest.approx([10 * 0.11])
    # Ten frames of both, then ten frames of the longer one alone.
    assert completion_times([10, 20], speed) == pytest.approx([10 * 0.12, 10 * 0.12 + 10 * 0.11])


def test_load_speed_ignores_other_results() -> None:
    """The benchmarks folder contains results of the quality of speech too."""
    assert load_speed(ROOT / "docs" / "benchmarks", ASSUMPTIONS.speed).base > 0


def test_load_speed_prefers_gpu_measurement(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(
        '{"date": "2026-02-01", "machine": "some CPU", "device": "cpu", "sizes": "tiny", "ms_per_frame": {"1": 1}}'
    )
    assert not load_speed(tmp_path, ASSUMPTIONS.speed).is_measured
    (tmp_path / "l4.json").write_text(
        '{"date": "2026-01-01", "machine": "NVIDIA L4", "device": "cuda:0", "sizes": "published", '
        '"ms_per_frame": {"1": 51, "8": 58, "32": 82}}'
    )
    speed = load_speed(tmp_path, ASSUMPTIONS.speed)
    assert (speed.gpu, speed.is_measured) == ("NVIDIA L4", True)
    assert (speed.base, speed.per_stream) == pytest.approx((0.05, 0.001))


# traffic and cost


def test_traffic_matches_parameters() -> None:
    given = ASSUMPTIONS.traffic
    for day in (traffic.steady(given, 50_000), traffic.day_curve(given, 50_000)):
        assert len(day) == pytest.approx(50_000, rel=0.02)
        assert (np.diff(day.arrivals) >= 0).all()
        assert day.audio_seconds.mean() == pytest.approx(given.mean_audio_seconds, rel=0.03)
    curve = traffic.day_curve(given, 50_000)
    assert busiest_rate(curve.arrivals, HOUR) == pytest.approx(2 * 50_000 / 86_400, rel=0.05)


def test_bill_total() -> None:
    result = simulate(burst())
    cost = bill(result, PRICES, 8)
    assert cost.total == pytest.approx(sum(cost.items.values()))
    assert cost.per_thousand == pytest.approx(cost.total / 0.3)
    hours = result.instance_seconds / 3600
    price = PRICES.instance_hour["g6.xlarge"].on_demand
    assert hours * price < cost.items["GPU instances"] < 1.1 * hours * price


def test_first_start_launches_two_instances() -> None:
    """The second is idle until ECS gives it back after a quarter of an hour."""
    result = simulate(burst(1))
    assert result.most_instances == 2
    assert max(minute.serving for minute in result.minutes) == 1
    assert simulate(burst(1), {"MaxWorkers": 1}).most_instances == 1


def test_preview_metrics_are_billed_by_the_hour() -> None:
    assert bill(simulate(burst(0)), PRICES, 8).items["metrics"] == 0
    hour = 5 * PRICES.metric_month / 730
    assert bill(simulate(burst(1)), PRICES, 8).items["metrics"] == pytest.approx(hour)


def test_bill_of_idle_day() -> None:
    cost = bill(simulate(burst(0)), PRICES, 8)
    assert cost.items["GPU instances"] == 0
    assert 0 < cost.total < 1


def test_waiting_functions_are_counted() -> None:
    result = simulate(burst(100))
    fewer = replace(result, latency=np.full(100, 1.0))
    assert most_waiting_functions(fewer) < most_waiting_functions(result) <= 100


def test_bounds_sorted_by_share() -> None:
    shares = [limit.share for limit in limits_by_use(simulate(burst()))]
    assert shares == sorted(shares, reverse=True)
