"""Plants each of the bugs in a copy of the code, and counts the schedules until the simulation finds it.

python -m tests.simulation.planted [--schedules 3000] [--processes 2] [NAME …]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.simulation.bugs import Bug, background, http, jobs, notifications, voices

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pipeline", "functions", "gpu_runner", "localstack", "tests")


UNCHANGED = Bug("none", "pipeline/domain/jobs.py", '"""Jobs:', '"""Jobs:')
BUGS = (*jobs.BUGS, *notifications.BUGS, *voices.BUGS, *background.BUGS, *http.BUGS)


def plant(bug: Bug, folder: Path) -> None:
    """Copy the packages with the bug into an empty folder.

    Raises
    ------
    ValueError
        The code has changed, so the bug has to be planted elsewhere.
    """
    for package in PACKAGES:
        if Path(bug.file).parts[0] == package:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / package).symlink_to(ROOT / package)
    file = folder / bug.file
    code = file.read_text()
    if code.count(bug.before) != 1:
        raise ValueError(f"{bug.name}: {bug.file} contains the code {code.count(bug.before)} times")
    file.write_text(code.replace(bug.before, bug.after))


def schedules_until_found(bug: Bug, most: int, seed: int = 1) -> int | None:
    """Return the number of schedules after which the bug is found. None if it is not found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plant(bug, folder)
        command = [sys.executable, "-m", "tests.simulation", "--processes", "1", "--no-shrink"]
        command += ["--schedules", str(most), "--seed", str(seed)]
        environment = os.environ | {
            "PYTHONPATH": f"{folder}:{folder / 'localstack'}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    first = ended.stdout.partition("\n")[0]
    if ended.returncode == 0:
        return None
    if not first.startswith("failed after "):
        raise RuntimeError(f"{bug.name}: {ended.stderr[-500:]}")
    return int(first.split()[2])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted", description=__doc__)
    parser.add_argument("--schedules", type=int, default=3000, help="per bug, at most")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("names", nargs="*")
    given = parser.parse_args(arguments)
    chosen = [bug for bug in BUGS if not given.names or bug.name in given.names]
    if schedules_until_found(UNCHANGED, given.schedules) is not None:
        print("the unchanged code fails: see python -m tests.simulation")
        return 1
    began, missed = time.monotonic(), 0
    with ThreadPoolExecutor(given.processes) as pool:
        results = pool.map(lambda bug: schedules_until_found(bug, given.schedules), chosen)
        for bug, found in zip(chosen, results, strict=True):
            missed += found is None
            print(f"{'not found' if found is None else found:>9}  {bug.name}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} found in {time.monotonic() - began:.0f} s")
    return 1 if missed > len(chosen) // 40 else 0


if __name__ == "__main__":
    sys.exit(main())
