"""The tables of the docs."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from infra.simulation.assumptions import Prices
from infra.simulation.cost import Bill, bill
from infra.simulation.limits import bounds
from infra.simulation.play import End, Played
from infra.simulation.scenarios import CHANGES, CHOICES, NOISE, SCENARIOS, SPEEDS, VOLUMES, Run, Stage
from infra.simulation.traffic import HOUR, Floats

MARKED = r"(<!-- {name} -->\n).*?(<!-- end -->)"
NOISY = 0  # the owner who floods
WAITED = ("p50", "p95", "p99")

Billed = Callable[[Played], Bill]


def write_tables(page: Path, stage: Stage, prices: Prices) -> None:
    """Write every table between its markers in the page.

    Raises
    ------
    LookupError
        The page has no markers for one.
    """
    text = page.read_text()
    for name, lines in tables(stage, prices).items():
        pattern = re.compile(MARKED.format(name=name), re.DOTALL)
        found = pattern.search(text)
        if found is None:
            raise LookupError(f"{page} should have a place for a table: <!-- {name} --> and, below, <!-- end -->.")
        text = text[: found.start()] + found[1] + "\n" + "\n".join(lines) + "\n\n" + found[2] + text[found.end() :]
    page.write_text(text)


def tables(stage: Stage, prices: Prices) -> dict[str, list[str]]:
    """Return the lines of every table by its name."""

    def billed(played: Played) -> Bill:
        return bill(played, prices, stage.assumptions.aws.image_gigabytes)

    return {
        "speed": list(_speed(stage)),
        "scenarios": list(_costed(stage, billed, SCENARIOS, "traffic")),
        "noise": list(_noise(stage)),
        "changes": list(_changes(stage, billed)),
        "choices": list(_costed(stage, billed, CHOICES, "20,000 a day, day curve")),
        "volumes": list(_volumes(stage, billed)),
        "limits": list(_limits(stage)),
        "speeds": list(_costed(stage, billed, SPEEDS, "GPU as fast as assumed")),
    }


def _speed(stage: Stage) -> Iterator[str]:
    speed = stage.speed
    yield _row("in flight", "a frame of each", "audio a second", "of one text")
    yield _rule(4)
    for streams in (1, 8, 16, 32):
        frame = speed.seconds_per_frame(streams)
        each = speed.real_time(streams) / streams
        yield _row(
            f"{streams}", f"{1000 * frame:.0f} ms", f"{speed.real_time(streams):.1f} s", f"{each:.2f} × real time"
        )


def _costed(stage: Stage, billed: Billed, runs: tuple[Run, ...], what: str) -> Iterator[str]:
    yield _row(what, *(f"waits, {name}" for name in WAITED), "answered, p95", *COSTED)
    yield _rule(5 + len(COSTED))
    for run in runs:
        yield _row(run.label, *_told(stage.play(run), billed))


COSTED = ("most workers", "instance hours", "busy", "$ of the day", "$ per 1,000", "first limit")


def _told(played: Played, billed: Billed) -> list[str]:
    cost = billed(played)
    first = bounds(played)[0]
    busy = played.busy_seconds / played.instance_seconds if played.instance_seconds else 0.0
    return [
        *_waits(played.queued),
        _seconds(_percentile(played.answered, 95)),
        f"{max((minute.serving for minute in played.minutes), default=0)}",
        f"{played.instance_seconds / HOUR:.1f}",
        f"{100 * busy:.0f} %",
        f"{cost.total:,.2f}",
        f"{cost.per_thousand:,.2f}",
        f"{first.name} ({100 * first.share:.0f} %)",
    ]


def _noise(stage: Stage) -> Iterator[str]:
    yield _row(
        "against a flood",
        *(f"the others wait, {name}" for name in WAITED),
        "the noisy one waits, p50",
        "refused with 429",
    )
    yield _rule(6)
    for run in NOISE:
        played = stage.play(run)
        quiet, noisy = _after_noon(played, quiet=True), _after_noon(played, quiet=False)
        refused = played.count(End.REFUSED)
        yield _row(run.label, *_waits(quiet), _seconds(_percentile(noisy, 50)), f"{refused:,}")


def _after_noon(played: Played, *, quiet: bool) -> Floats:
    """Return the waiting times of previews requested in the half hour from the start of the flood."""
    time = played.day.arrivals
    during = (time >= 12 * HOUR) & (time < 12.5 * HOUR)
    chosen: Floats = played.queued[during & ((played.day.owners != NOISY) == quiet)]
    return chosen


def _changes(stage: Stage, billed: Billed) -> Iterator[str]:
    yield _row("policy", "waits, p50", "p95", "p99", "instance hours", "$ of the day")
    yield _rule(6)
    for what, before, now in CHANGES:
        yield _row(f"*{what}*", *[""] * 5)
        for run in (before, now):
            played = stage.play(run)
            hours = f"{played.instance_seconds / HOUR:.1f}"
            yield _row(run.label, *_waits(played.queued), hours, f"{billed(played).total:,.2f}")


def _volumes(stage: Stage, billed: Billed) -> Iterator[str]:
    bills = [billed(stage.play(run)) for run in VOLUMES]
    yield _row("dollars a day", *(run.label for run in VOLUMES))
    yield _rule(1 + len(VOLUMES))
    for item in bills[0].items:
        yield _row(item, *(f"{cost.items[item]:,.2f}" for cost in bills))
    yield _row("**all**", *(f"**{cost.total:,.2f}**" for cost in bills))
    yield _row("a month", *(f"{30 * cost.total:,.0f}" for cost in bills))
    yield _row("a thousand previews", *(f"{cost.per_thousand:,.2f}" if cost.previews else "–" for cost in bills))
    played = [stage.play(run) for run in VOLUMES]
    yield _row("*instance hours*", *(f"{one.instance_seconds / HOUR:.1f}" for one in played))
    yield _row("*waits, p50*", *(_seconds(_percentile(one.queued, 50)) for one in played))
    yield _row("*waits, p95*", *(_seconds(_percentile(one.queued, 95)) for one in played))
    yield _row("*waits, p99*", *(_seconds(_percentile(one.queued, 99)) for one in played))


def _limits(stage: Stage) -> Iterator[str]:
    """Scale the busiest day's demand down to the point where each of the default limits is reached."""
    largest = stage.play(VOLUMES[-1])
    yield _row("limit", "there is", "1,000,000 a day ask for", "met at about", "raised by")
    yield _rule(5)
    for bound in bounds(largest, stage.default_policy()):
        met = f"{_rounded(len(largest.day) / bound.share):,.0f} a day" if bound.share else "–"
        yield _row(bound.name, f"{bound.available:,.0f}", f"{bound.asked:,.0f}", met, bound.raised_by)


def _rounded(number: float) -> float:
    """Round to two significant digits, which is as precise as the model is."""
    digits = 10 ** max(0, int(np.floor(np.log10(number))) - 1)
    return float(round(number / digits) * digits)


def _waits(seconds: Floats) -> list[str]:
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
