"""The simulation in CI. `python -m tests.simulation.planted` checks that it finds planted bugs."""

import pytest
from structlog.testing import capture_logs

from tests.simulation.__main__ import explore_in_processes
from tests.simulation.exploration import explore
from tests.simulation.planted import BUGS, ROOT, schedules_until_found

QUICK = 100
SCHEDULES, SHARDS = 10_000, 2
# One of each module, which is found soon.
FOUND_SOON = (
    "message is never sent",
    "webhook is not queued",
    "upload of a deleted voice is left",
    "previews are never deleted",
    "stream of a failed job ends normally",
)
SOON = 200  # schedules


def test_first_schedules_keep_guarantees() -> None:
    with capture_logs():
        runs, failure = explore(QUICK, seed=1, seconds=None)
    assert failure is None, failure
    assert runs == QUICK


def test_time_limit_is_kept() -> None:
    with capture_logs():
        runs, failure = explore(QUICK, seed=1, seconds=0.01)
    assert 0 < runs < QUICK
    assert failure is None


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_more_schedules_keep_guarantees(shard: int) -> None:
    assert explore_in_processes(SCHEDULES // SHARDS, seed=1000 + shard, seconds=None, processes=1) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND_SOON)
def test_planted_bug_is_found(name: str) -> None:
    bug = next(bug for bug in BUGS if bug.name == name)
    assert schedules_until_found(bug, SOON) is not None


def test_bugs_can_be_planted() -> None:
    counts = {bug.name: (ROOT / bug.file).read_text().count(bug.before) for bug in BUGS}
    assert len(counts) == len(BUGS) >= 40
    assert set(counts.values()) == {1}, {name: count for name, count in counts.items() if count != 1}
