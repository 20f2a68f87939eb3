"""The tasks of the GPU service and the instances under them, as ECS and its cluster auto scaling manage them."""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from infra.simulation.assumptions import Aws
from infra.simulation.policy import Scaling
from infra.simulation.worker import Worker

Process = Generator[simpy.Event, Any, None]

SCALE_IN_CHECK_SECONDS = 10.0


class Meter:
    """Counts items and integrates the count over time."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._since = env.now
        self._seconds = 0.0
        self.count = 0
        self.most = 0

    def add(self, change: int) -> None:
        """Change the count from now on."""
        self._seconds = self.seconds
        self._since = self._env.now
        self.count += change
        self.most = max(self.most, self.count)

    @property
    def seconds(self) -> float:
        """The integral of the count until now, in seconds."""
        return self._seconds + self.count * (self._env.now - self._since)


@dataclass(slots=True, eq=False)
class Task:
    """One worker, from its request to its end."""

    worker: Worker | None = None
    is_placed: bool = False
    is_running: bool = False
    """As ECS reports it: the container runs, whether or not the worker is ready."""
    is_stopping: bool = False
    has_stopped: bool = False


@dataclass(slots=True)
class Fleet:
    """The desired and the actual tasks and instances, and the time they are paid for."""

    env: simpy.Environment
    scaling: Scaling
    aws: Aws
    start_worker: Callable[[], Worker]
    """Returns a worker that is ready to receive."""
    stop_worker: Callable[[Worker, list[int]], None]
    """Called when a worker ends, with what it could not finish."""
    random: np.random.Generator
    desired: int = 0
    tasks: list[Task] = field(default_factory=list)
    free: int = 0
    """Instances without a task that have run one."""
    launching: int = 0
    interruptions: int = 0
    instances: Meter = field(init=False)
    serving: Meter = field(init=False)
    """Workers that are ready."""

    def __post_init__(self) -> None:
        self.instances = Meter(self.env)
        self.serving = Meter(self.env)
        self.set_desired(self.scaling.min_tasks)
        self.env.process(self._launch_as_needed())
        self.env.process(self._give_back_instances())
        self.env.process(self._scale_in())

    @property
    def staying(self) -> list[Task]:
        """The tasks that are not stopping."""
        return [task for task in self.tasks if not task.is_stopping]

    @property
    def running(self) -> int:
        """The number of running containers, as ECS reports it."""
        return sum(task.is_running for task in self.tasks)

    def set_desired(self, count: int) -> None:
        """Set the desired number of tasks."""
        self.desired = count
        while len(self.staying) < self.desired:
            self.tasks.append(Task())
        self._place()

    def _place(self) -> None:
        """Place pending tasks on free instances."""
        for task in self.staying:
            if self.free and not task.is_placed:
                self.free -= 1
                task.is_placed = True
                self.env.process(self._serve(task, pull_seconds=0))

    def _serve(self, task: Task, pull_seconds: float) -> Process:
        yield self.env.timeout(pull_seconds)
        task.is_running = True
        yield self.env.timeout(self.aws.model_load_seconds)
        if task.has_stopped:
            return
        task.worker = self.start_worker()
        self.serving.add(1)
        if self.scaling.is_spot:
            self.env.process(self._interrupt(task))

    def _launch_as_needed(self) -> Process:
        while True:
            yield self.env.timeout(self.aws.managed_scaling_seconds)
            wanted = sum(not task.is_placed for task in self.staying) - self.launching
            if wanted > 0 and not self.instances.count:
                wanted = max(wanted, self.aws.managed_first_instances)
            room = self.scaling.max_instances - self.instances.count
            for _ in range(min(wanted, room, self.scaling.largest_launch)):
                self.env.process(self._launch())

    def _launch(self) -> Process:
        self.launching += 1
        self.instances.add(1)
        yield self.env.timeout(self.aws.instance_launch_seconds)
        self.launching -= 1
        task = next((task for task in self.staying if not task.is_placed), None)
        if task is None:
            self.free += 1
            return
        task.is_placed = True
        yield from self._serve(task, self.aws.image_pull_seconds)

    def _give_back_instances(self) -> Process:
        """Terminate instances that have been free for long enough, half of the group at a time."""
        minutes = 0
        while True:
            yield self.env.timeout(60)
            spare = self.free - math.ceil(self.instances.count * (1 - self.scaling.target_capacity / 100))
            minutes = minutes + 1 if spare > 0 else 0
            if minutes >= self.aws.managed_scale_in_datapoints:
                most = max(1, math.floor(self.instances.count * self.aws.managed_scale_in_share))
                self.free -= min(spare, most)
                self.instances.add(-min(spare, most))

    def _scale_in(self) -> Process:
        """Stop surplus tasks: first pending ones, then idle ones, then busy ones."""
        excess_since = math.inf
        while True:
            yield self.env.timeout(SCALE_IN_CHECK_SECONDS)
            excess = len(self.staying) - self.desired
            if excess <= 0:
                excess_since = math.inf
                continue
            excess_since = min(excess_since, self.env.now)
            works_long_enough = self.env.now - excess_since >= self.aws.renewal_refused_seconds
            for task in sorted(self.staying, key=_running_jobs)[:excess]:
                if not _running_jobs(task) or works_long_enough:
                    self.env.process(self._drain_and_stop(task, self.aws.task_stop_seconds))

    def _drain_and_stop(self, task: Task, seconds: float) -> Process:
        """Stop receiving, finish the jobs and end; the instance stays available."""
        yield from self._drain(task, math.inf)
        yield self.env.timeout(seconds)
        if task.is_placed:
            self.free += 1
        self._place()

    def _interrupt(self, task: Task) -> Process:
        """Interrupt a Spot instance after its notice, unless the task ends first."""
        yield self.env.timeout(self.random.exponential(3600 / self.aws.spot_interruptions_per_instance_hour))
        if task.is_stopping:
            return
        self.interruptions += 1
        yield from self._drain(task, self.scaling.drain_seconds)
        self.instances.add(-1)
        self.set_desired(self.desired)

    def _drain(self, task: Task, longest_seconds: float) -> Process:
        task.is_stopping = True
        worker = task.worker
        if worker is not None:
            worker.is_receiving = False
            end = self.env.now + longest_seconds
            while worker.running_jobs and self.env.now < end:
                yield self.env.timeout(1)
            self.stop_worker(worker, worker.drop_all())
            self.serving.add(-1)
        task.has_stopped = True
        self.tasks.remove(task)


def _running_jobs(task: Task) -> int:
    return task.worker.running_jobs if task.worker else 0
