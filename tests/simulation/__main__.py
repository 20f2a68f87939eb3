"""Runs schedules in several processes. Reports the first failure with a shrunk trace and how to replay it."""

import argparse
import gc
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(1, str(Path(__file__).absolute().parents[2] / "localstack"))

import detangle
import structlog
from detangle import BugFound, BugReport, SimConfig

from tests.simulation.event_loop import Uniform
from tests.simulation.scenarios import schedule

CONFIG = SimConfig(max_steps=200_000)
SHOWN_LINES = 60
HASH_SEED = "0"  # the order of sets decides which task comes first


def explore(count: int, seed: int, seconds: float | None, *, shrink: bool = True) -> str | None:
    """Run schedules until one fails. Return the report of the failure, or None."""
    try:
        gc.freeze()  # the modules, which every collection would visit
        gc.disable()  # the strategy collects garbage between schedules
        detangle.explore(
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
        return "\n".join([f"failed after {report.runs} schedules of seed {seed}", *shown(report), replay])
    finally:
        gc.enable()
    return None


def shown(report: BugReport) -> list[str]:
    """Return the failure, and what was stored, deleted and disturbed until then."""
    lines = report.render(trace_limit=10_000).splitlines()
    notes = [line for line in lines if re.search(r"\bnote\b", line)]
    return [str(report.failure.exception or report.failure.message), *notes[-SHOWN_LINES:]]


def replay(token: str) -> str | None:
    """Run one schedule again. Return the report of its failure, or None."""
    gc.disable()
    try:
        detangle.replay(schedule, token, config=CONFIG)
    except BugFound as found:
        return "\n".join(shown(found.report))
    return None


def explore_in_processes(count: int, seed: int, seconds: float | None, processes: int) -> int:
    """Divide the schedules among processes with a seed each. Return the highest exit status."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.simulation", "--processes", "1", "--schedules", str(count // processes)]
    command += ["--seconds", str(seconds)] if seconds else []
    running = [subprocess.Popen([*command, "--seed", str(seed + number)]) for number in range(processes)]
    status = max(process.wait() for process in running)
    print(f"{count} schedules in {time.monotonic() - began:.0f} s with {processes} processes")
    return status


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, help="time limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-shrink", action="store_true", help="report the first failure as it is")
    parser.add_argument("--replay", metavar="TOKEN", help="run the schedule of a failure again")
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        command = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONHASHSEED": HASH_SEED})
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if given.processes > 1 and not given.replay:
        return explore_in_processes(given.schedules, given.seed, given.seconds, given.processes)
    if given.replay:
        failure = replay(given.replay)
    else:
        failure = explore(given.schedules, given.seed, given.seconds, shrink=not given.no_shrink)
    if failure:
        print(failure)
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
