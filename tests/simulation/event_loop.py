"""Detangle's event loop and its random strategy, with less work per step.

They ask for the same decisions in the same order. Left out are asyncio's debug mode, the number of distinct
schedules, and where a task was created, unless a report is made.
"""

import asyncio
import gc
import random
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from detangle import Strategy, _runner
from detangle._choices import SCHED, Decision
from detangle._loop import Lane, SimLoop, TaskInfo
from detangle.errors import StepLimitExceeded

SCHEDULES_PER_COLLECTION = 5  # more garbage does not fit into the caches of the processor


class _Handle(asyncio.Handle):
    __slots__ = ()

    def __init__(
        self,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = copy_context() if context is None else context
        self._cancelled = False


class QuickLoop(SimLoop):
    """See the module."""

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if self._abandoned:
            return self._dead_handle(callback, args)
        handle = _Handle(callback, args, self, context)
        owner = getattr(callback, "__self__", None)
        if isinstance(owner, asyncio.Task):
            lane = self._task_lanes.get(owner) or self._lane_for_task(owner)
        else:
            lane = self._callback_lane
        self._seq += 1
        if not lane.queue:
            self._active[lane.id] = lane
        lane.queue.append((self._seq, handle))
        return handle

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        **kwargs: Any,
    ) -> asyncio.Task[Any]:
        if self.tracer is not None or kwargs:
            return super().create_task(coro, name=name, context=context, **kwargs)
        return asyncio.Task(coro, loop=self, name=name, context=context)  # its first step makes its lane

    def _lane_for_task(self, task: asyncio.Task[Any]) -> Lane:
        lane = self._task_lanes.get(task)
        if lane is None:
            if self.tracer is not None:
                return super()._lane_for_task(task)
            lane = self._task_lanes[task] = Lane(self._new_lane_id(), task, "task", "")
            self.task_info[task] = TaskInfo(task, lane, None, None, None)
            self.tasks.append(task)
        return lane

    def _run_once(self) -> bool:
        if self.tracer is not None or self._inbox or not self._limits:
            return super()._run_once()
        if self._timers and self._timers[0][0] <= self._now:
            self._collect_due_timers()
        lane = self._pick_lane()
        if lane is None:
            return self._advance_time()
        handle = lane.queue.popleft()[1]
        if not lane.queue:
            del self._active[lane.id]
        handle._run()
        self.steps += 1
        if self.steps >= self.config.max_steps:
            raise StepLimitExceeded(f"The schedule has more than {self.steps} steps.")
        return True

    def _pick_lane(self) -> Lane | None:
        """Return one of the lanes with a callback, which are in the order of their oldest callback."""
        active = self._active
        lanes = list(active.values())
        for lane in lanes:
            if lane.queue[0][1]._cancelled:
                return super()._pick_lane()
        if len(lanes) < 2:
            return lanes[0] if lanes else None
        if 0 in active:  # the callback lane is the only one with several, and stays where it was
            lanes.sort(key=_oldest)
        if not self._recording:
            return lanes[0]
        index = self._strategy.schedule(lanes)
        self.decisions.append(_decision((SCHED, len(lanes), index)))
        if index and self.tracer is not None:
            self.tracer.on_deviation(lanes[:index])
        return lanes[index]

    def choose(self, n: int, kind: str) -> int:
        if n <= 1 or not self._recording:
            return 0
        value = min(self._strategy.choose(n, kind), n - 1)
        self.decisions.append(_decision((kind, n, value)))
        return value


_decision = partial(tuple.__new__, Decision)  # without the call of a Python function


def _oldest(lane: Lane) -> int:
    return lane.queue[0][0]


class Uniform(Strategy):
    """Makes each decision at random, with the same probability for each answer."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def start(self, run_index: int) -> None:
        self._random = random.Random(f"{self._seed} {run_index}").random
        # Not within a schedule: it would close generators, which adds steps.
        if run_index % SCHEDULES_PER_COLLECTION == 0:
            gc.collect()

    def schedule(self, lanes: Sequence[object]) -> int:
        return int(self._random() * len(lanes))

    def choose(self, n: int, kind: str) -> int:
        return int(self._random() * n)

    def flip(self, p: float, kind: str) -> bool:
        return self._random() < p


vars(_runner)["SimLoop"] = QuickLoop  # detangle has no setting for its loop
