"""One GPU with continuous batching: jobs join and leave the batch, which advances one frame at a time."""

import heapq
from collections.abc import Callable, Sequence
from functools import partial

import simpy

from infra.simulation.speed import Speed

ROUNDING = 1e-6  # frames


class Worker:
    """Synthesizes up to `slots` jobs concurrently; `on_ended` is called with those that end together.

    The time of a frame depends on the batch size, so the state is the number of frames that the batch has advanced,
    and the frame at which each job ends.
    """

    def __init__(
        self, env: simpy.Environment, speed: Speed, slots: int, on_ended: Callable[["Worker", list[int]], None]
    ) -> None:
        self._env = env
        self._speed = speed
        self._slots = slots
        self._on_ended = on_ended
        self._ends: list[tuple[float, int]] = []
        self._gone = 0.0
        self._since = env.now
        self._plan = 0
        self.is_receiving = True
        self.busy_seconds = 0.0
        """Time during which it had jobs."""

    @property
    def room(self) -> int:
        """The number of further jobs that it would receive."""
        return self._slots - len(self._ends) if self.is_receiving else 0

    @property
    def running_jobs(self) -> int:
        """The number of jobs in progress."""
        return len(self._ends)

    def begin(self, jobs: Sequence[tuple[int, int]]) -> None:
        """Start jobs, given with their numbers of frames."""
        self._catch_up()
        for job, frames in jobs:
            heapq.heappush(self._ends, (self._gone + frames, job))
        self._plan_end()

    def drop_all(self) -> list[int]:
        """Drop and return all jobs in progress, as at the end of a drain."""
        self._catch_up()
        dropped = [job for _, job in self._ends]
        self._ends.clear()
        self._plan += 1
        return dropped

    def _catch_up(self) -> None:
        passed = self._env.now - self._since
        self._since = self._env.now
        if self._ends:
            self._gone += passed / self._speed.seconds_per_frame(len(self._ends))
            self.busy_seconds += passed

    def _plan_end(self) -> None:
        """Schedule the end of the next job; a change of the batch replaces it."""
        self._plan += 1
        if self._ends:
            left = max(0.0, self._ends[0][0] - self._gone)
            wait = self._env.timeout(left * self._speed.seconds_per_frame(len(self._ends)))
            wait.callbacks.append(partial(self._end, self._plan))

    def _end(self, plan: int, _event: simpy.Event) -> None:
        if plan != self._plan:
            return
        self._catch_up()
        ended = []
        while self._ends and self._ends[0][0] <= self._gone + ROUNDING:
            ended.append(heapq.heappop(self._ends)[1])
        # Planned before the batch is refilled: an end that rounding delays slightly is handled by the next event.
        self._plan_end()
        self._on_ended(self, ended)
