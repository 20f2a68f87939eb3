"""Draws the plots of docs/scaling.md."""

from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from infra.simulation.report import NOISY_OWNER
from infra.simulation.scenarios import NOISE, SCENARIOS, VOLUMES, Run, Simulator
from infra.simulation.simulated_day import DayResult
from infra.simulation.traffic import HOUR, Floats

mpl.rcParams["font.size"] = 9
POINTS = 300


def draw_plots(folder: Path, simulator: Simulator) -> None:
    """Write every plot."""
    folder.mkdir(parents=True, exist_ok=True)
    burst, tenfold = SCENARIOS[2], SCENARIOS[5]
    _save(_course(simulator.run(burst), 9 * HOUR - 300, 9 * HOUR + 4200, unit=60), folder / "burst.webp")
    _save(_course(simulator.run(tenfold), 11.5 * HOUR, 15 * HOUR), folder / "peak.webp")
    _save(_course(simulator.run(VOLUMES[-1]), 0, 24 * HOUR), folder / "million.webp")
    _save(_noise(simulator, (NOISE[0], NOISE[-1])), folder / "noise.webp")


def _course(result: DayResult, begin: float, end: float, *, unit: float = HOUR) -> Figure:
    """Plot the queue above and the workers below."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    minutes = [minute for minute in result.minutes if begin <= minute.time <= end]
    minutes = minutes[:: max(1, len(minutes) // POINTS)]
    offset = 9 * HOUR if unit < HOUR else 0.0
    times = [(minute.time - offset) / unit for minute in minutes]
    above.fill_between(times, [minute.waiting for minute in minutes], step="pre", alpha=0.4, label="waiting")
    above.plot(times, [minute.running_jobs for minute in minutes], drawstyle="steps-pre", label="running")
    below.plot(times, [minute.desired for minute in minutes], drawstyle="steps-pre", ls="--", label="desired")
    below.plot(times, [minute.instances for minute in minutes], drawstyle="steps-pre", label="instances")
    below.plot(times, [minute.serving for minute in minutes], drawstyle="steps-pre", label="ready workers")
    below.set_xlabel("hour of the day" if unit == HOUR else "minutes after the first preview")
    _finish(above, "previews")
    _finish(below, "workers")
    return figure


def _noise(simulator: Simulator, runs: Iterable[Run]) -> Figure:
    """Plot the queue time of other owners around the burst."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    for run in runs:
        result = simulator.run(run)
        quiet = (result.day.owners != NOISY_OWNER) & (np.abs(result.day.arrivals - 12.2 * HOUR) < 0.4 * HOUR)
        axes.plot(
            _thinned(result.day.arrivals[quiet] / HOUR),
            _thinned(result.queue_time[quiet]),
            ".",
            ms=4,
            label=run.label,
        )
    axes.set_xlabel("hour of the day")
    _finish(axes, "queue time of others (s)")
    return figure


def _thinned(values: Floats) -> Floats:
    return values[:: max(1, len(values) // POINTS)]


def _finish(axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def _save(figure: Figure, file: Path) -> None:
    # Lossless; the output is deterministic, so a file changes only if the plot does.
    figure.savefig(file, dpi=110, pil_kwargs={"lossless": True, "method": 6})
