"""Statistics of the jobs of the last hour."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from pydantic import BaseModel, Field

from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import Failed, Succeeded, UtcSeconds
from pipeline.domain import jobs
from pipeline.ids import lowest_id

WINDOW = timedelta(hours=1)
# Each outcome is one read from the storage.
READ_AT_MOST = 500
_READS_AT_ONCE = 32


class Spread(BaseModel):
    """The distribution of a value over jobs."""

    p50: float
    p95: float
    max: float


class JobStatistics(BaseModel):
    """The jobs that were created in the last hour."""

    made: int = Field(description="Number of jobs")
    open: int = Field(description="Jobs that have not ended")
    read: int = Field(description="Ended jobs that the following figures include, at most the newest 500")
    outcomes: dict[str, int] = Field(description="Number of succeeded jobs, and of failed jobs by error code")
    wait_seconds: Spread | None = Field(description="Time in the queue")
    synthesis_seconds: Spread | None
    speed: Spread | None = Field(description="Seconds of audio per second of synthesis; p95 is the slowest 5 %")
    audio_seconds: float = Field(description="Generated audio")
    last_ended_at: UtcSeconds | None


async def read_statistics(resources: Resources, *, read_at_most: int = READ_AT_MOST) -> JobStatistics:
    """Return the statistics of the last hour; needs one listing, and a read of each outcome."""
    open_jobs, ended = await _jobs_since(resources)
    newest = ended[-read_at_most:]
    outcomes: list[Succeeded | Failed] = []
    for start in range(0, len(newest), _READS_AT_ONCE):
        some = newest[start : start + _READS_AT_ONCE]
        found = await asyncio.gather(*(jobs.read_outcome(resources, job_id) for job_id in some))
        outcomes += [outcome for outcome in found if outcome is not None]
    return summarize(outcomes, made=open_jobs + len(ended), open_jobs=open_jobs)


async def _jobs_since(resources: Resources) -> tuple[int, list[str]]:
    """Return the number of open jobs, and the ids of those that have ended, oldest first."""
    since = layout.JOBS + lowest_id(resources.clock() - WINDOW)
    made, ended = set[str](), list[str]()
    async for item in resources.bucket.list(layout.JOBS, start_after=since):
        job_id = layout.id_in(item.key, layout.JOBS)
        made.add(job_id)
        if item.key == layout.outcome(job_id):
            ended.append(job_id)
    return len(made) - len(ended), ended


def summarize(outcomes: Sequence[Succeeded | Failed], *, made: int, open_jobs: int) -> JobStatistics:
    """Return the statistics of these outcomes."""
    generated = [one for one in outcomes if isinstance(one, Succeeded) and one.timings and one.preview]
    timings = [one.timings for one in generated if one.timings]
    return JobStatistics(
        made=made,
        open=open_jobs,
        read=len(outcomes),
        outcomes=dict(Counter(one.code if isinstance(one, Failed) else one.status for one in outcomes)),
        wait_seconds=_spread([one.queued_seconds for one in timings]),
        synthesis_seconds=_spread([one.synthesis_seconds for one in timings]),
        speed=_spread([1 / one.real_time_factor for one in timings if one.real_time_factor], slow_is_low=True),
        audio_seconds=round(sum(one.preview.duration_seconds for one in generated if one.preview), 3),
        last_ended_at=max((one.completed_at for one in outcomes), default=None),
    )


def _spread(values: list[float], *, slow_is_low: bool = False) -> Spread | None:
    if not values:
        return None
    ordered = sorted(values, reverse=slow_is_low)
    at = {share: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95)}
    return Spread(p50=round(at[0.5], 3), p95=round(at[0.95], 3), max=round(max(values), 3))
