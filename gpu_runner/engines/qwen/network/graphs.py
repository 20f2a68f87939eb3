"""Runs functions over static buffers: as CUDA graphs on a GPU, directly on a CPU.

A captured graph replays the same kernels on the same memory, so a function may depend only on its key and on the
contents of the buffers.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Protocol, TypeVar

import structlog
import torch
from torch import Tensor

log = structlog.get_logger()

Graph = TypeVar("Graph")


class Fetched(Protocol):
    """A copy to the host that may be in progress."""

    @property
    def is_ready(self) -> bool:
        """Whether `wait` would return at once."""

    def wait(self) -> Tensor:
        """Wait for the copy and return it, on the CPU."""


class Runner(Protocol):
    """A queue of work on the device."""

    captures: bool
    """Whether the first run of a key is slow."""

    def run(self, key: Hashable, function: Callable[[], None]) -> None:
        """Run a function over static buffers. The same key always means the same function."""

    def fetch(self, tensor: Tensor) -> Fetched:
        """Copy a tensor to the host, after the work queued so far and before any later work."""

    def use(self) -> AbstractContextManager[None]:
        """Queue the work that is issued inside the context."""


class Done:
    """A tensor that is already on the host."""

    is_ready = True

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def wait(self) -> Tensor:
        """Return the tensor."""
        return self._tensor


class EagerRunner:
    """Runs everything synchronously."""

    captures = False

    def run(self, key: Hashable, function: Callable[[], None]) -> None:
        """Run the function."""
        function()

    def fetch(self, tensor: Tensor) -> Fetched:
        """Copy the tensor."""
        return Done(tensor.clone())

    @contextmanager
    def use(self) -> Iterator[None]:
        """Do nothing: all work runs in order."""
        yield


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


class _Copy:
    """A copy into pinned memory."""

    def __init__(self, tensor: Tensor) -> None:
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._host.copy_(tensor, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record()

    @property
    def is_ready(self) -> bool:
        return bool(self._event.query())

    def wait(self) -> Tensor:
        self._event.synchronize()
        return self._host


class GraphRunner:
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
        if graph := self._graphs.get(key):
            with torch.cuda.stream(self._stream):
                graph.replay()
            return
        with torch.cuda.stream(self._stream):
            function()
        if key not in self._graphs:
            self._graphs[key] = captured_or_none(key, partial(self._captured, function))

    def fetch(self, tensor: Tensor) -> Fetched:
        """Copy the tensor."""
        with torch.cuda.stream(self._stream):
            return _Copy(tensor)

    @contextmanager
    def use(self) -> Iterator[None]:
        """Do nothing: all work runs in order."""
        with torch.cuda.stream(self._stream):
            yield

    def _captured(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # Another thread may be creating a voice prompt: its work on another stream must not affect the capture.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            function()
        return graph
