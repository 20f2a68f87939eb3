"""Errors of a device: out of memory, which is temporary, or the loss of the device, which is permanent.

After an out-of-memory error the engine halves the rows in flight and puts the others back into the queue
(`QwenEngine._preempt`). The limit grows again as rows end without another shortage (`Scheduler.finish_row`). A row
that fails alone ends its job with 503.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gpu_runner.engines import EngineLost
from pipeline.errors import Unavailable

# torch has exception types for most of these, but not for errors of cuBLAS, cuDNN or the CPU's allocator.
_OUT_OF_MEMORY = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "can't allocate memory",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_LOST = (
    "CUDA error",
    "device-side assert",
    "CUBLAS_STATUS_",
    "CUDNN_STATUS_",
    "NVML",
    "unspecified launch failure",
)


class OutOfMemory(Exception):
    """The device had too little memory for an operation. Its previous contents are still valid."""


@contextmanager
def translate_device_errors() -> Iterator[None]:
    """Translate the errors of a device into the exceptions that callers handle.

    Raises
    ------
    OutOfMemory
        A smaller batch may succeed.
    EngineLost
        The device is lost, or in a state in which later calls are unreliable.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or _mentions(error, _OUT_OF_MEMORY):
            raise OutOfMemory(_first_line(error)) from None  # the traceback would keep the tensors alive
        if isinstance(error, torch.AcceleratorError) or _mentions(error, _LOST):
            raise EngineLost(f"The device is lost: {_first_line(error)}") from error
        raise


def _mentions(error: BaseException, marks: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(mark.lower() in text for mark in marks)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def no_memory() -> Unavailable:
    """Return the error for a client when memory was short."""
    return Unavailable("The device has too little memory for this at the moment. Try again later.")


def release_memory(device: torch.device) -> None:
    """Return torch's cached memory to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
