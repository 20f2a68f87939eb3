"""Runs schedules in several processes. Reports the first failure with a shrunk trace and how to replay it."""

import argparse
import os
import subprocess
import sys
import time

HASH_SEED = "0"  # the order of sets decides which task comes first


def explore_in_processes(count: int, seed: int, seconds: float | None, processes: int) -> int:
    """Divide the schedules among processes with a seed each. Return the highest exit status."""
    command = [sys.executable, "-m", "tests.simulation", "--processes", "1", "--schedules", str(count // processes)]
    command += ["--seconds", str(seconds)] if seconds else []
    environment = os.environ | {"PYTHONHASHSEED": HASH_SEED}
    running = [
        subprocess.Popen([*command, "--seed", str(seed + number)], env=environment) for number in range(processes)
    ]
    return max(process.wait() for process in running)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, help="time limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-shrink", action="store_true", help="report the first failure as it is")
    parser.add_argument("--replay", metavar="TOKEN", help="run the schedule of a failure again")
    given = parser.parse_args()
    if given.processes > 1 and not given.replay:
        return explore_in_processes(given.schedules, given.seed, given.seconds, given.processes)
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        command = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONHASHSEED": HASH_SEED})
    # The import takes seconds. Only the process that runs schedules needs it.
    from tests.simulation import exploration

    exploration.log_nothing()
    if given.replay:
        failure = exploration.replay(given.replay)
    else:
        began = time.monotonic()
        runs, failure = exploration.explore(given.schedules, given.seed, given.seconds, shrink=not given.no_shrink)
        result = "failed after" if failure else "passed"
        print(f"{result} {runs} schedules of seed {given.seed} in {time.monotonic() - began:.0f} s")
    if failure:
        print(failure)
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
