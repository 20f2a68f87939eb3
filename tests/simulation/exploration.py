"""Runs schedules in this process. Reports the first failure with a shrunk trace and how to replay it."""

import gc
import logging
import re
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).absolute().parents[2] / "localstack"))

import detangle
import structlog
from detangle import BugFound, BugReport, SimConfig

from pipeline.contract import layout
from tests.simulation.event_loop import Uniform
from tests.simulation.scenarios import schedule

CONFIG = SimConfig(max_steps=200_000)
SHOWN_LINES = 100


def explore(count: int, seed: int, seconds: float | None, *, shrink: bool = True) -> tuple[int, str | None]:
    """Run schedules until one fails or the time is over. Return their number, and the report of a failure."""
    try:
        gc.freeze()  # the modules, which every collection would visit
        gc.disable()  # the strategy collects garbage between schedules
        stats = detangle.explore(
            schedule,
            runs=count,
            strategy=Uniform(seed),
            max_duration=seconds,
            config=CONFIG,
            database=False,
            shrink=shrink,
        )
    except BugFound as found:
        report = found.report
        replay = f"python -m tests.simulation --replay {report.token}"
        return report.runs, "\n".join([*shown(report), replay])
    finally:
        gc.enable()
    return stats.runs, None


def shown(report: BugReport) -> list[str]:
    """Return the failure, and what was stored, deleted and disturbed until then."""
    lines = report.render(trace_limit=10_000).splitlines()
    notes = [line for line in lines if re.search(r"\bnote\b", line) and layout.LAST_SWEEP not in line]
    return [str(report.failure.exception or report.failure.message), *notes[-SHOWN_LINES:]]


def replay(token: str) -> str | None:
    """Run one schedule again. Return the report of its failure, or None."""
    gc.disable()
    try:
        detangle.replay(schedule, token, config=CONFIG)
    except BugFound as found:
        return "\n".join(shown(found.report))
    return None


def log_nothing() -> None:
    """Filter all messages of the service."""
    filtered = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=filtered, cache_logger_on_first_use=True)
