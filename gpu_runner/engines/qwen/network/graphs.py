"""Runs functions over static buffers: as CUDA graphs on a GPU, directly on a CPU.

A captured graph replays the same kernels on the same memory, so a function may depend only on its key and on the
contents of the buffers.
"""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TypeVar

import structlog
import torch
from torch import Tensor

log = structlog.get_logger()

Graph = TypeVar("Graph")


class Fetched:
    """A copy on the host, which is in progress until its event."""

    def __init__(self, tensor: Tensor, event: torch.cuda.Event | None = None) -> None:
        self._tensor = tensor
        self._event = event

    @property
    def is_ready(self) -> bool:
        """Whether `wait` would return at once."""
        return self._event is None or bool(self._event.query())

    def wait(self) -> Tensor:
        """Wait for the copy and return it, on the CPU."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensor


class Runner:
    """A queue of work on the device. This one runs everything synchronously."""

    captures = False
    """Whether the first run of a key is slow."""

    def run(self, key: Hashable, function: Callable[[], None]) -> None:
        """Run a function over static buffers. The same key always means the same function."""
        function()

    def fetch(self, tensor: Tensor) -> Fetched:
        """Copy a tensor to the host, after the work queued so far and before any later work."""
        return Fetched(tensor.clone())

    def use(self) -> AbstractContextManager[object]:
        """Queue the work that is issued inside the context."""
        return nullcontext()


def captured_or_none(key: Hashable, capture: Callable[[], Graph]) -> Graph | None:
    """Return the graph of a key, or None if it can't be captured, which is logged.

    Raises
    ------
    torch.OutOfMemoryError
        A graph of a smaller batch may fit.
    """
    try:
        return capture()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), "")
        log.warning("a graph can't be captured, running without it", key=str(key), reason=reason)
        return None


class GraphRunner(Runner):
    """Runs on a stream of its own. A function is captured when it has run once, and replayed from then on.

    All graphs of a runner share their memory: they run one after the other, and keep no data in it. A function that
    can't be captured runs without a graph. Work on a stream with a lower `priority` precedes other work.
    """

    captures = True

    def __init__(self, device: torch.device, priority: int = 0) -> None:
        self._stream = torch.cuda.Stream(device, priority)
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph | None] = {}

    def run(self, key: Hashable, function: Callable[[], None]) -> None:
        """Replay the graph of the key. The first run captures it and is slow."""
        graph = self._graphs.get(key)
        with torch.cuda.stream(self._stream):
            (graph.replay if graph else function)()
        if key not in self._graphs:
            self._graphs[key] = captured_or_none(key, partial(self._captured, function))

    def fetch(self, tensor: Tensor) -> Fetched:
        """Copy a tensor into pinned memory: see `Runner.fetch`."""
        with torch.cuda.stream(self._stream):
            host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            return Fetched(host.copy_(tensor, non_blocking=True), self._stream.record_event())

    def use(self) -> AbstractContextManager[object]:
        """Queue work on the stream: see `Runner.use`."""
        return torch.cuda.stream(self._stream)

    def _captured(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # Another thread may be creating a voice prompt: its work on another stream must not affect the capture.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            function()
        return graph
