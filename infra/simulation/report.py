"""Writes the tables of docs/scaling.md."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from infra.simulation.assumptions import Prices
from infra.simulation.cost import Bill, bill
from infra.simulation.limits import limits_by_use
from infra.simulation.scenarios import CHANGES, CHOICES, NOISE, SCENARIOS, SPEEDS, VOLUMES, Run, Simulator
from infra.simulation.simulated_day import DayResult, End
from infra.simulation.traffic import HOUR, Floats

MARKED = r"(<!-- {name} -->\n).*?(<!-- end -->)"
NOISY_OWNER = 0  # the owner who sends the burst
PERCENTILES = ("p50", "p95", "p99")

Billed = Callable[[DayResult], Bill]


def write_tables(page: Path, simulator: Simulator, prices: Prices) -> None:
    """Write every table between its markers in the page.

    Raises
    ------
    LookupError
        The page has no markers for one.
    """
    text = page.read_text()
    for name, lines in tables(simulator, prices).items():
        pattern = re.compile(MARKED.format(name=name), re.DOTALL)
        found = pattern.search(text)
        if found is None:
            raise LookupError(
                f"{page} has no place for a table: expected <!-- {name} --> and <!-- end --> after it."
            )
        text = text[: found.start()] + found[1] + "\n" + "\n".join(lines) + "\n\n" + found[2] + text[found.end() :]
    page.write_text(text)


def tables(simulator: Simulator, prices: Prices) -> dict[str, list[str]]:
    """Return the lines of every table by its name."""

    def billed(result: DayResult) -> Bill:
        return bill(result, prices, simulator.assumptions.aws.image_gigabytes)

    return {
        "speed": list(_speed(simulator)),
        "scenarios": list(_costed(simulator, billed, SCENARIOS, "traffic")),
        "noise": list(_noise(simulator)),
        "changes": list(_changes(simulator, billed)),
        "choices": list(_costed(simulator, billed, CHOICES, "20,000 a day (day curve)")),
        "volumes": list(_volumes(simulator, billed)),
        "limits": list(_limits(simulator)),
        "speeds": list(_costed(simulator, billed, SPEEDS, "GPU speed")),
    }


def _speed(simulator: Simulator) -> Iterator[str]:
    speed = simulator.speed
    yield _row("in flight", "time per frame", "audio per second", "per job")
    yield _rule(4)
    for streams in (1, 8, 16, 32):
        frame = speed.seconds_per_frame(streams)
        each = speed.real_time(streams) / streams
        yield _row(
            f"{streams}", f"{1000 * frame:.0f} ms", f"{speed.real_time(streams):.1f} s", f"{each:.2f} × real time"
        )


def _costed(simulator: Simulator, billed: Billed, runs: tuple[Run, ...], what: str) -> Iterator[str]:
    yield _row(what, *(f"queue time {name}" for name in PERCENTILES), "total time p95", *COSTED)
    yield _rule(5 + len(COSTED))
    for run in runs:
        yield _row(run.label, *_result_cells(simulator.run(run), billed))


COSTED = ("max workers", "instance hours", "busy", "$ per day", "$ per 1,000", "first limit")


def _result_cells(result: DayResult, billed: Billed) -> list[str]:
    cost = billed(result)
    first = limits_by_use(result)[0]
    busy = result.busy_seconds / result.instance_seconds if result.instance_seconds else 0.0
    return [
        *_percentile_cells(result.queue_time),
        _seconds(_percentile(result.latency, 95)),
        f"{max((minute.serving for minute in result.minutes), default=0)}",
        f"{result.instance_seconds / HOUR:.1f}",
        f"{100 * busy:.0f} %",
        f"{cost.total:,.2f}",
        f"{cost.per_thousand:,.2f}",
        f"{first.name} ({100 * first.share:.0f} %)",
    ]


def _noise(simulator: Simulator) -> Iterator[str]:
    yield _row(
        "protection",
        *(f"queue time of others {name}" for name in PERCENTILES),
        "of the noisy owner p50",
        "answered 429",
    )
    yield _rule(6)
    for run in NOISE:
        result = simulator.run(run)
        quiet, noisy = _after_noon(result, quiet=True), _after_noon(result, quiet=False)
        refused = result.count(End.REJECTED)
        yield _row(run.label, *_percentile_cells(quiet), _seconds(_percentile(noisy, 50)), f"{refused:,}")


def _after_noon(result: DayResult, *, quiet: bool) -> Floats:
    """Return the waiting times of previews requested in the half hour from the start of the flood."""
    time = result.day.arrivals
    during = (time >= 12 * HOUR) & (time < 12.5 * HOUR)
    chosen: Floats = result.queue_time[during & ((result.day.owners != NOISY_OWNER) == quiet)]
    return chosen


def _changes(simulator: Simulator, billed: Billed) -> Iterator[str]:
    yield _row("policy", "queue time p50", "p95", "p99", "instance hours", "$ per day")
    yield _rule(6)
    for what, before, now in CHANGES:
        yield _row(f"*{what}*", *[""] * 5)
        for run in (before, now):
            result = simulator.run(run)
            hours = f"{result.instance_seconds / HOUR:.1f}"
            yield _row(run.label, *_percentile_cells(result.queue_time), hours, f"{billed(result).total:,.2f}")


def _volumes(simulator: Simulator, billed: Billed) -> Iterator[str]:
    bills = [billed(simulator.run(run)) for run in VOLUMES]
    yield _row("$ per day", *(run.label for run in VOLUMES))
    yield _rule(1 + len(VOLUMES))
    for item in bills[0].items:
        yield _row(item, *(f"{cost.items[item]:,.2f}" for cost in bills))
    yield _row("**total**", *(f"**{cost.total:,.2f}**" for cost in bills))
    yield _row("$ per month", *(f"{30 * cost.total:,.0f}" for cost in bills))
    yield _row("$ per 1,000 previews", *(f"{cost.per_thousand:,.2f}" if cost.previews else "–" for cost in bills))
    result = [simulator.run(run) for run in VOLUMES]
    yield _row("*instance hours*", *(f"{one.instance_seconds / HOUR:.1f}" for one in result))
    yield _row("*queue time p50*", *(_seconds(_percentile(one.queue_time, 50)) for one in result))
    yield _row("*queue time p95*", *(_seconds(_percentile(one.queue_time, 95)) for one in result))
    yield _row("*queue time p99*", *(_seconds(_percentile(one.queue_time, 99)) for one in result))


def _limits(simulator: Simulator) -> Iterator[str]:
    """Scale the busiest day's demand down to the point where each of the default limits is reached."""
    largest = simulator.run(VOLUMES[-1])
    yield _row("limit", "available", "needed for 1,000,000 a day", "reached at about", "raised by")
    yield _rule(5)
    for limit in limits_by_use(largest, simulator.default_policy()):
        met = f"{_rounded(len(largest.day) / limit.share):,.0f} a day" if limit.share else "–"
        yield _row(limit.name, f"{limit.available:,.0f}", f"{limit.needed:,.0f}", met, limit.raised_by)


def _rounded(number: float) -> float:
    """Round to two significant digits, which is as precise as the model is."""
    digits = 10 ** max(0, int(np.floor(np.log10(number))) - 1)
    return float(round(number / digits) * digits)


def _percentile_cells(seconds: Floats) -> list[str]:
    return [_seconds(_percentile(seconds, percent)) for percent in (50, 95, 99)]


def _percentile(seconds: Floats, percent: float) -> float:
    known = seconds[~np.isnan(seconds)]
    return float(np.percentile(known, percent)) if len(known) else float("nan")


def _seconds(seconds: float) -> str:
    if np.isnan(seconds):
        return "–"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns
