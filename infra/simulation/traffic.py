"""Days of traffic: when and by whom each preview is requested, and how long its audio is."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.simulation.assumptions import Traffic
from infra.simulation.speed import FRAMES_PER_SECOND

HOUR = 3600.0
DAY = 24 * HOUR
SEED = 20261122

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Rate = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Day:
    """The previews of a day, in the order of their requests."""

    name: str
    arrivals: Floats
    """Seconds since midnight."""
    frames: Integers
    owners: Integers

    def __len__(self) -> int:
        return len(self.arrivals)

    @property
    def audio_seconds(self) -> Floats:
        """The duration of each preview's audio."""
        return self.frames / FRAMES_PER_SECOND


def make_day(name: str, arrivals: Floats, traffic: Traffic, *, owners: Integers | None = None) -> Day:
    """Create a day with a random length for each arrival, all from one seed."""
    order = np.argsort(arrivals, kind="stable")
    random = np.random.default_rng(SEED + 1)
    # A lognormal distribution with the requested mean.
    middle = np.log(traffic.mean_audio_seconds) - traffic.audio_spread**2 / 2
    seconds = np.clip(
        random.lognormal(middle, traffic.audio_spread, len(order)), 0.5, traffic.longest_audio_seconds
    )
    frames = np.ceil(seconds * FRAMES_PER_SECOND).astype(np.int64)
    whose = np.zeros(len(order), np.int64) if owners is None else owners[order]
    return Day(name, arrivals[order], frames, whose)


def arrivals_at(rate: Rate, per_day: float) -> Floats:
    """Sample the arrivals of a Poisson process whose rate is proportional to a curve."""
    random = np.random.default_rng(SEED)
    minutes = np.arange(0, DAY, 60.0)
    weights = rate(minutes + 30)
    counts = random.poisson(per_day * weights / weights.sum())
    return np.asarray(np.repeat(minutes, counts) + random.uniform(0, 60, counts.sum()))


def steady(traffic: Traffic, per_day: float) -> Day:
    """Return a day with a constant rate."""
    return make_day(f"steady, {per_day:,.0f} a day", arrivals_at(np.ones_like, per_day), traffic)


def day_curve(traffic: Traffic, per_day: float) -> Day:
    """Return a day with a quiet night and a busy evening."""
    swing = traffic.day_peak_to_mean - 1

    def rate(time: Floats) -> Floats:
        return np.asarray(np.maximum(0.02, 1 + swing * np.cos(2 * np.pi * (time / HOUR - 19) / 24)))

    return make_day(f"day curve, {per_day:,.0f} a day", arrivals_at(rate, per_day), traffic)


def burst_from_zero(traffic: Traffic, count: int, minutes: float = 10) -> Day:
    """Return a day without traffic except for `count` previews within minutes."""
    random = np.random.default_rng(SEED)
    begin = 9 * HOUR
    arrivals = begin + np.sort(random.uniform(0, 60 * minutes, count))
    arrivals[:1] = begin
    return make_day(f"burst from zero, {count:,} in {minutes:g} min", arrivals, traffic)


def tenfold_peak(traffic: Traffic, per_day: float) -> Day:
    """Return a steady day with one hour at ten times the rate."""

    def rate(time: Floats) -> Floats:
        return np.where((time >= 12 * HOUR) & (time < 13 * HOUR), 10.0, 1.0)

    scaled = per_day * (24 + 9) / 24
    return make_day(f"tenfold peak, {per_day:,.0f} a day", arrivals_at(rate, scaled), traffic)


def noisy_tenant(traffic: Traffic, per_day: float, flood: int, tenants: int = 100) -> Day:
    """Return a steady day of many owners, with a flood from owner 0 within a minute at noon."""
    random = np.random.default_rng(SEED + 2)
    quiet = arrivals_at(np.ones_like, per_day)
    noisy = 12 * HOUR + random.uniform(0, 60, flood)
    owners = np.concatenate([random.integers(1, tenants + 1, len(quiet)), np.zeros(flood, np.int64)])
    return make_day(
        f"noisy tenant, {flood:,} at noon on {per_day:,.0f} a day",
        np.concatenate([quiet, noisy]),
        traffic,
        owners=owners,
    )
