"""Simulates a day of traffic under a policy, job by job, and records the result of each."""

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import simpy

from infra.simulation.assumptions import Assumptions
from infra.simulation.autoscaling import Autoscaler, Readings, Sample
from infra.simulation.fleet import Fleet, Process
from infra.simulation.job_queue import FairQueue, FifoQueue, InFlightLimit, JobQueue
from infra.simulation.policy import Policy
from infra.simulation.published import Published
from infra.simulation.speed import Speed
from infra.simulation.traffic import DAY, HOUR, SEED, Day, Floats, Integers
from infra.simulation.worker import Worker

LONGEST_TAIL = 12 * HOUR


class End(IntEnum):
    """The end of a preview."""

    PENDING = 0
    COMPLETED = 1
    REJECTED = 2
    """Refused with 429: its owner had too many in flight."""
    EXPIRED = 3
    """Its deadline passed before a worker received it."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The configuration of a simulation, except the day."""

    policy: Policy
    assumptions: Assumptions
    speed: Speed
    is_fair: bool = False
    """Whether messages carry their owner as message group, which makes the queue fair."""
    is_limited: bool = False
    """Whether the policy's limit on an owner's previews in flight applies."""
    queue_is_kept_active: bool = True
    """Whether the queue is accessed at least every six hours, which keeps its metrics active."""
    fills_empty_series: bool = True
    """Whether CloudWatch's `FILL` adds datapoints to a series that has none, which AWS does not document."""
    reports_zeros: bool = True
    """Whether SQS publishes zeros for messages sent and in flight, as documented, or no datapoints."""


@dataclass(frozen=True, slots=True)
class Minute:
    """The state at the end of a minute."""

    time: float
    waiting: int
    running_jobs: int
    desired: int
    serving: int
    instances: int


@dataclass(frozen=True, slots=True)
class DayResult:
    """The results of a day."""

    day: Day
    setup: Setup
    ends: Integers
    queue_time: Floats
    """Seconds from the request until a worker received it; NaN where none did."""
    latency: Floats
    """Seconds from the request until its audio was complete; NaN where it never was."""
    minutes: tuple[Minute, ...]
    gpu_seconds: float
    """Of workers that were ready to receive."""
    busy_seconds: float
    """Of workers that had jobs in progress."""
    instance_seconds: float
    most_instances: int
    interruptions: int
    length: float

    def count(self, end: End) -> int:
        """Return the number of previews with this end."""
        return int(np.count_nonzero(self.ends == end))


def simulate_day(day: Day, setup: Setup) -> DayResult:
    """Simulate a day, and beyond it until every job has ended and the service has scaled in."""
    return _Simulation(day, setup).run()


class _Simulation:
    def __init__(self, day: Day, setup: Setup) -> None:
        self.day = day
        self.setup = setup
        self.env = simpy.Environment()
        self.workers: list[Worker] = []
        self.minutes: list[Minute] = []
        self.busy_seconds = 0.0
        self.sent = 0  # since the last sample
        self.last_access = 0.0
        self.silent_until = 0.0  # until then the queue, inactive before, has no metrics
        owners = self.day.owners.tolist()
        self.random = np.random.default_rng(SEED + 3)
        self.queue: JobQueue = FairQueue(owners) if self.setup.is_fair else FifoQueue()
        self.in_flight = InFlightLimit(
            owners, self.setup.policy.limits.previews_in_flight if self.setup.is_limited else None
        )
        self.frames = self.day.frames.tolist()
        self.arrivals = self.day.arrivals.tolist()
        self.ends = [int(End.PENDING)] * len(self.day)
        self.queue_time = [math.nan] * len(self.day)
        self.latency = [math.nan] * len(self.day)
        self.pending = len(self.day)
        scaling, aws = self.setup.policy.scaling, self.setup.assumptions.aws
        self.fleet = Fleet(self.env, scaling, aws, self._start_worker, self._stop_worker, self.random)
        self.autoscaler = Autoscaler(scaling, aws)
        self.published = Published(aws, np.random.default_rng(SEED + 4))

    def run(self) -> DayResult:
        self.env.process(self._arrive())
        self.env.process(self._scale())
        while not self._is_over() and self.env.now < DAY + LONGEST_TAIL:
            self.env.run(until=self.env.now + 300)
        return self._result()

    def _is_over(self) -> bool:
        return not self.pending and self.fleet.instances.count <= self.setup.policy.scaling.min_tasks

    def _arrive(self) -> Process:
        env = self.env
        for job, time in enumerate(self.arrivals):
            if time > env.now:
                yield env.timeout(time - env.now)
            self._request(job)

    def _request(self, job: int) -> None:
        if not self.in_flight.admit(job):
            self._end(job, End.REJECTED)
            return
        self._access_queue()
        self.sent += 1
        self.queue.put(job)
        self._offer()

    def _offer(self) -> None:
        """Deliver queue_time jobs to polling workers, chosen at random."""
        count = len(self.workers)
        if not count:
            return
        first = int(self.random.random() * count)
        for number in range(count):
            worker = self.workers[(first + number) % count]
            if worker.room > 0:
                self._receive(worker)
                if not len(self.queue):
                    return

    def _receive(self, worker: Worker) -> None:
        batch: list[tuple[int, int]] = []
        while len(batch) < worker.room and (job := self.queue.receive()) is not None:
            waited = self.env.now - self.arrivals[job]
            self.queue_time[job] = waited
            if waited > self.setup.policy.limits.job_deadline_seconds:
                self.queue.delete(job)
                self.in_flight.release(job)
                self._end(job, End.EXPIRED)
            else:
                batch.append((job, self.frames[job]))
        if batch:
            worker.begin(batch)

    def _on_completed(self, worker: Worker, jobs: list[int]) -> None:
        for job in jobs:
            self.latency[job] = self.env.now - self.arrivals[job] + self.setup.assumptions.aws.io_seconds
            self.queue.delete(job)
            self.in_flight.release(job)
            self._end(job, End.COMPLETED)
        if len(self.queue):
            self._receive(worker)

    def _end(self, job: int, end: End) -> None:
        self.ends[job] = int(end)
        self.pending -= 1

    def _start_worker(self) -> Worker:
        batch_size = self.setup.policy.scaling.batch_size
        worker = Worker(self.env, self.setup.speed, batch_size, self._on_completed)
        self.workers.append(worker)
        self._receive(worker)
        return worker

    def _stop_worker(self, worker: Worker, unfinished: list[int]) -> None:
        self.workers.remove(worker)
        self.busy_seconds += worker.busy_seconds
        for job in unfinished:
            self.queue.delete(job)
            self.queue.put(job)
        self._offer()

    def _access_queue(self) -> None:
        """Record an access; after the first one in a long time, the metrics return only with a delay."""
        aws, now = self.setup.assumptions.aws, self.env.now
        silence = now - self.last_access
        if not (self.setup.queue_is_kept_active or self.workers) and silence > aws.inactive_queue_hours * HOUR:
            self.silent_until = now + aws.inactive_queue_lag_seconds
        self.last_access = now

    def _scale(self) -> Process:
        """Measure once a minute, and scale by the metrics available at that time."""
        aws = self.setup.assumptions.aws
        while True:
            yield self.env.timeout(aws.metric_seconds)
            self._note_minute()
            self.published.add(self.env.now, self._sample())
            readings = Readings(self.published.readable(self.env.now), self.setup.fills_empty_series)
            wanted = self.autoscaler.decide(self.env.now, self.fleet.desired, readings)
            if wanted != self.fleet.desired:
                self.fleet.set_desired(wanted)

    def _note_minute(self) -> None:
        running_jobs = sum(worker.running_jobs for worker in self.workers)
        fleet = self.fleet
        self.minutes.append(
            Minute(
                self.env.now,
                len(self.queue),
                running_jobs,
                fleet.desired,
                fleet.serving.count,
                fleet.instances.count,
            )
        )
        if self.workers:
            self.last_access = self.env.now

    def _sample(self) -> Sample:
        minute = self.minutes[-1]
        sent, self.sent = self.sent, 0
        running = self.fleet.running
        # ECS publishes a datapoint per running task and minute, and none when no task runs.
        sample = {"CPUUtilization:SampleCount": float(running)} if running else {}
        if self.env.now < self.silent_until:
            return sample
        queue = {"NumberOfMessagesSent": sent, "ApproximateNumberOfMessagesNotVisible": minute.running_jobs}
        if not self.setup.reports_zeros:
            queue = {name: count for name, count in queue.items() if count}
        queue["ApproximateNumberOfMessagesVisible"] = minute.waiting
        return sample | {name: float(count) for name, count in queue.items()}

    def _result(self) -> DayResult:
        return DayResult(
            day=self.day,
            setup=self.setup,
            ends=np.array(self.ends, np.int64),
            queue_time=np.array(self.queue_time),
            latency=np.array(self.latency),
            minutes=tuple(self.minutes),
            gpu_seconds=self.fleet.serving.seconds,
            busy_seconds=self.busy_seconds + sum(worker.busy_seconds for worker in self.workers),
            instance_seconds=self.fleet.instances.seconds,
            most_instances=self.fleet.instances.most,
            interruptions=self.fleet.interruptions,
            length=max(self.env.now, DAY),
        )
