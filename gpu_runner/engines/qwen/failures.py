"""Errors of a device: out of memory, which is temporary, or loss of the device, which is permanent."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gpu_runner.engines import EngineLost
from pipeline.errors import SynthesisFailed, Unavailable

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
    """The device had too little memory for an operation; its previous contents are still valid."""


@contextmanager
def told_apart() -> Iterator[None]:
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
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or _says(error, _OUT_OF_MEMORY):
            raise OutOfMemory(_first_line(error)) from None  # the traceback would keep the tensors alive
        if isinstance(error, torch.AcceleratorError) or _says(error, _LOST):
            raise EngineLost(f"The device is lost: {_first_line(error)}") from error
        raise


def _says(error: BaseException, marks: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(mark.lower() in text for mark in marks)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def broken(dtype: torch.dtype) -> SynthesisFailed:
    """Return the error for a client whose audio contains NaN."""
    cure = " float16 is known for this: use bfloat16 or float32." if dtype == torch.float16 else ""
    return SynthesisFailed(f"The model gave numbers that can't be turned into speech.{cure}")


def unreadable() -> SynthesisFailed:
    """Return the error for a client whose text can't be tokenized."""
    return SynthesisFailed("The model can't read this text; put it another way.")


def no_room() -> Unavailable:
    """Return the error for a client when memory was short."""
    return Unavailable("There is too little memory on the device for this at the moment; try again later.")
