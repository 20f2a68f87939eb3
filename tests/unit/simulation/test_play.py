"""Days that are played: nothing is lost, nothing is faster than it can be, and the bill adds up."""

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
from infra.simulation.limits import bounds, busiest_rate, most_waiting_functions
from infra.simulation.line import Door, Fair, Fifo
from infra.simulation.play import End, Played, Setup, play
from infra.simulation.policy import Policy
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


def played(day: Day, parameters: dict[str, Any] | None = None, *, speed: float = 1, **setup: Any) -> Played:
    policy = policy_with(tuple((parameters or {}).items()))
    return play(day, Setup(policy, ASSUMPTIONS, SPEED.times(speed), **setup))


def burst(count: int = 300) -> Day:
    return traffic.burst_from_zero(ASSUMPTIONS.traffic, count)


def cold_start_seconds() -> float:
    """The least that can pass from the first message to the first word: nobody may be faster."""
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
    result = played(day, **setup)
    assert result.count(End.NOT_YET) == 0
    assert sum(result.count(end) for end in End) == len(day)
    assert np.isfinite(result.answered[result.ends == End.SPOKEN]).all()
    assert np.isnan(result.answered[result.ends != End.SPOKEN]).all()
    assert result.minutes[-1].waiting == result.minutes[-1].in_hand == 0


def test_play_is_deterministic() -> None:
    one, other = played(burst()), played(burst())
    assert np.array_equal(one.answered, other.answered)
    assert one.instance_seconds == other.instance_seconds


def test_first_preview_waits_for_cold_start() -> None:
    result = played(burst())
    assert result.queued[0] >= cold_start_seconds()
    assert cold_start_seconds() < result.queued[0] < 10 * 60


def test_min_workers_avoids_cold_start() -> None:
    assert played(burst(20), {"MinWorkers": 1}).queued[0] == 0


def test_inactive_queue_delays_start() -> None:
    touched, forgotten = played(burst(1)), played(burst(1), queue_is_kept_active=False)
    more = forgotten.queued[0] - touched.queued[0]
    assert 0 < more <= ASSUMPTIONS.aws.inactive_queue_lag_seconds + 60


@pytest.mark.parametrize("fills_empty_series", [True, False])
@pytest.mark.parametrize("reports_zeros", [True, False])
@pytest.mark.parametrize("count", [1, 300])
def test_workers_start_with_any_aws_reading(fills_empty_series: bool, reports_zeros: bool, count: int) -> None:
    result = played(burst(count), fills_empty_series=fills_empty_series, reports_zeros=reports_zeros)
    assert result.count(End.SPOKEN) == count
    assert cold_start_seconds() < result.queued[0] < 10 * 60
    assert result.minutes[-1].instances == 0


def test_more_gpus_reduce_waiting() -> None:
    peak = traffic.tenfold_peak(ASSUMPTIONS.traffic, 4_000)
    few, many = (played(peak, {"MinWorkers": count, "MaxWorkers": count}, speed=0.4) for count in (1, 3))
    fast = played(peak, {"MinWorkers": 1, "MaxWorkers": 1}, speed=1.6)
    assert few.queued.max() > 60
    for better in (many, fast):
        assert better.queued.mean() <= few.queued.mean()
        assert np.percentile(better.answered, 99) <= np.percentile(few.answered, 99)


def test_expired_jobs_are_not_synthesized() -> None:
    result = played(burst(600), {"MaxWorkers": 1}, speed=0.015)
    assert result.count(End.EXPIRED) > 0
    assert result.queued[result.ends == End.SPOKEN].max() <= 3600


def test_idle_gpus_are_stopped() -> None:
    result = played(burst())
    assert result.minutes[-1].instances == 0
    assert result.most_instances <= policy_with().scaling.max_tasks
    assert result.busy_seconds <= result.gpu_seconds <= result.instance_seconds


def test_regular_jobs_keep_worker_running() -> None:
    times = np.arange(9 * HOUR, 12 * HOUR, 120.0)
    result = played(traffic.make_day("now and then", times, ASSUMPTIONS.traffic))
    settled = result.day.arrivals > 9.5 * HOUR
    assert result.queued[settled].max() == 0


def test_small_burst_uses_few_gpus() -> None:
    result = played(traffic.burst_from_zero(ASSUMPTIONS.traffic, 30, 1), {"MaxWorkers": 24})
    assert result.most_instances <= 3


def test_spot_interruptions_lose_no_job() -> None:
    often = ASSUMPTIONS.aws.model_copy(update={"spot_interruptions_per_instance_hour": 6.0})
    setup = Setup(policy_with((("Spot", "on"),)), ASSUMPTIONS.model_copy(update={"aws": often}), SPEED)
    result = play(traffic.steady(ASSUMPTIONS.traffic, 3_000), setup)
    assert result.interruptions > 5
    assert result.count(End.SPOKEN) == len(result.day)


# tenants


def test_fair_queue_protects_other_owners() -> None:
    def others_wait(**setup: Any) -> float:
        result = played(FLOOD, {"MinWorkers": 1, "MaxWorkers": 1}, **setup)
        after = (FLOOD.arrivals > 12 * HOUR) & (FLOOD.arrivals < 12.5 * HOUR) & (FLOOD.owners != 0)
        return float(np.percentile(result.queued[after], 95))

    bare, fair, both = others_wait(), others_wait(is_fair=True), others_wait(is_fair=True, is_limited=True)
    assert both <= fair < bare / 2


def test_door_limits_per_owner() -> None:
    door = Door([0, 0, 1], 1)
    assert [door.enter(job) for job in (0, 1, 2)] == [True, False, True]
    door.leave(0)
    assert door.enter(1)


@pytest.mark.parametrize("make", [lambda _: Fifo(), Fair])
def test_queue_returns_each_job_once(make: Callable[[list[int]], Fifo | Fair]) -> None:
    owners = [job % 3 for job in range(30)]
    line = make(owners)
    for job in range(30):
        line.put(job)
    taken = [line.take() for _ in range(30)]
    assert sorted(job for job in taken if job is not None) == list(range(30))
    assert (line.take(), len(line)) == (None, 0)


def test_fair_queue_prefers_idle_owners() -> None:
    owners = [0] * 20 + [1, 2]
    line = Fair(owners)
    for job in range(10):
        line.put(job)
    assert [line.take() for _ in range(8)] == list(range(8))
    for job in range(10, 22):
        line.put(job)
    assert [line.take(), line.take(), line.take()] == [20, 21, 8]


# one worker


def spoken_at(frames: list[int], speed: Speed, slots: int = 8) -> list[float]:
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
    assert spoken_at([10], speed) == pytest.approx([10 * 0.11])
    # Ten frames of both, and ten more of the longer one alone.
    assert spoken_at([10, 20], speed) == pytest.approx([10 * 0.12, 10 * 0.12 + 10 * 0.11])


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


# days and what they cost


def test_traffic_matches_parameters() -> None:
    given = ASSUMPTIONS.traffic
    for day in (traffic.steady(given, 50_000), traffic.day_curve(given, 50_000)):
        assert len(day) == pytest.approx(50_000, rel=0.02)
        assert (np.diff(day.arrivals) >= 0).all()
        assert day.audio_seconds.mean() == pytest.approx(given.mean_audio_seconds, rel=0.03)
    curve = traffic.day_curve(given, 50_000)
    assert busiest_rate(curve.arrivals, HOUR) == pytest.approx(2 * 50_000 / 86_400, rel=0.05)


def test_bill_total() -> None:
    result = played(burst())
    cost = bill(result, PRICES, 8)
    assert cost.total == pytest.approx(sum(cost.items.values()))
    assert cost.per_thousand == pytest.approx(cost.total / 0.3)
    hours = result.instance_seconds / 3600
    price = PRICES.instance_hour["g6.xlarge"].on_demand
    assert hours * price < cost.items["GPU instances"] < 1.1 * hours * price


def test_bill_of_idle_day() -> None:
    cost = bill(played(burst(0)), PRICES, 8)
    assert cost.items["GPU instances"] == 0
    assert 0 < cost.total < 1


def test_waiting_functions_are_counted() -> None:
    result = played(burst(100))
    fewer = replace(result, answered=np.full(100, 1.0))
    assert most_waiting_functions(fewer) < most_waiting_functions(result) <= 100


def test_bounds_sorted_by_share() -> None:
    shares = [bound.share for bound in bounds(played(burst()))]
    assert shares == sorted(shares, reverse=True)
