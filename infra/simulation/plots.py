"""The plots of the docs."""

from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from infra.simulation.play import Played
from infra.simulation.report import NOISY
from infra.simulation.scenarios import NOISE, SCENARIOS, VOLUMES, Run, Stage
from infra.simulation.traffic import HOUR, Floats

# Deterministic output: a file changes only if the plot does.
mpl.rcParams["svg.hashsalt"] = "voice-cloning"
mpl.rcParams["font.size"] = 9
POINTS = 300


def draw_plots(folder: Path, stage: Stage) -> None:
    """Write every plot."""
    folder.mkdir(parents=True, exist_ok=True)
    burst, tenfold = SCENARIOS[2], SCENARIOS[5]
    _save(_course(stage.play(burst), 9 * HOUR - 300, 9 * HOUR + 4200, unit=60), folder / "burst.svg")
    _save(_course(stage.play(tenfold), 11.5 * HOUR, 15 * HOUR), folder / "peak.svg")
    _save(_course(stage.play(VOLUMES[-1]), 0, 24 * HOUR), folder / "million.svg")
    _save(_noise(stage, (NOISE[0], NOISE[-1])), folder / "noise.svg")


def _course(played: Played, begin: float, end: float, *, unit: float = HOUR) -> Figure:
    """Plot the queue above and the workers below."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    minutes = [minute for minute in played.minutes if begin <= minute.time <= end]
    minutes = minutes[:: max(1, len(minutes) // POINTS)]
    offset = 9 * HOUR if unit < HOUR else 0.0
    times = [(minute.time - offset) / unit for minute in minutes]
    above.fill_between(times, [minute.waiting for minute in minutes], step="pre", alpha=0.4, label="wait")
    above.plot(times, [minute.in_hand for minute in minutes], drawstyle="steps-pre", label="are spoken")
    below.plot(times, [minute.desired for minute in minutes], drawstyle="steps-pre", ls="--", label="asked for")
    below.plot(times, [minute.instances for minute in minutes], drawstyle="steps-pre", label="instances paid")
    below.plot(times, [minute.serving for minute in minutes], drawstyle="steps-pre", label="workers that serve")
    below.set_xlabel("hour of the day" if unit == HOUR else "minutes after the first preview")
    _finish(above, "previews")
    _finish(below, "workers")
    return figure


def _noise(stage: Stage, runs: Iterable[Run]) -> Figure:
    """Plot how long other owners wait around a flood."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    for run in runs:
        played = stage.play(run)
        quiet = (played.day.owners != NOISY) & (np.abs(played.day.arrivals - 12.2 * HOUR) < 0.4 * HOUR)
        axes.plot(
            _thinned(played.day.arrivals[quiet] / HOUR), _thinned(played.queued[quiet]), ".", ms=4, label=run.label
        )
    axes.set_xlabel("hour of the day")
    _finish(axes, "seconds that others wait")
    return figure


def _thinned(values: Floats) -> Floats:
    return values[:: max(1, len(values) // POINTS)]


def _finish(axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, format="svg", metadata={"Date": None})
