"""Chooses the device and the precision from the settings and the available hardware."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog
import torch

from gpu_runner.engines import CannotLoad
from gpu_runner.engines.qwen.network.precision import set_precision
from pipeline.settings import Settings

log = structlog.get_logger()

_GPU_FILES = ("/dev/nvidia0", "/proc/driver/nvidia/gpus", "/dev/dxg")  # the last one: WSL

_DRIVERS = {"12": "driver R525 or newer", "13": "driver R580 or newer"}

USE_CPU = "set DEVICE=cpu to run slowly on the CPU"


@dataclass(frozen=True, slots=True)
class Placement:
    """The device and precision of the model."""

    device: torch.device
    dtype: torch.dtype
    int8: bool = False
    """Whether the layers of the transformers have int8 weights."""

    @property
    def precision(self) -> str:
        """The value of `TORCH_DTYPE` that it stands for."""
        return "int8" if self.int8 else str(self.dtype).removeprefix("torch.")


def resolve(settings: Settings) -> Placement:
    """Choose device and precision, and log the requested and the resolved values.

    Raises
    ------
    CannotLoad
        The requested device or precision is not available.
    """
    device = _device(settings.device)
    dtype = _dtype(settings.torch_dtype, device)
    placement = Placement(device, dtype, int8=settings.torch_dtype == "int8")
    log.info(
        "placement resolved",
        device=str(device),
        device_requested=settings.device,
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        torch_dtype=placement.precision,
        torch_dtype_requested=settings.torch_dtype,
        torch=torch.__version__,
    )
    return placement


def use(placement: Placement, attention_backend: str) -> None:
    """Select the device for the current thread. Set full float32 precision and the attention of the process."""
    if placement.device.type == "cuda":
        torch.cuda.set_device(placement.device)
    # torch's own default is TF32 for convolutions: the codes of a reference would depend on the GPU.
    set_precision("ieee")
    # torch's own default depends on the GPU: on sm_90 it is cuDNN, for masked bfloat16.
    torch.backends.cuda.enable_cudnn_sdp(attention_backend == "cudnn")
    torch.backends.cuda.enable_mem_efficient_sdp(attention_backend != "math")
    torch.backends.cuda.enable_flash_sdp(attention_backend != "math")


def _device(requested: str) -> torch.device:
    if requested == "cpu":
        return torch.device("cpu")
    if requested == "auto" and not torch.cuda.is_available() and not gpu_is_present():
        log.warning("no GPU on this machine, the model runs slowly on the CPU", device_requested=requested)
        return torch.device("cpu")
    # A GPU that is present but can't be used is an error: the CPU would be far too slow.
    if not torch.cuda.is_available():
        raise CannotLoad(_why_no_cuda(requested))
    device = torch.device("cuda:0" if requested in {"auto", "cuda"} else requested)
    count = torch.cuda.device_count()
    if device.index >= count:
        raise CannotLoad(f"DEVICE={requested}: choose one of cuda:0 to cuda:{count - 1}.")
    _check_usable(device)
    return device


def gpu_is_present() -> bool:
    """Return whether the machine has an NVIDIA GPU, even if torch can't use it."""
    return shutil.which("nvidia-smi") is not None or any(Path(name).exists() for name in _GPU_FILES)


def _why_no_cuda(requested: str) -> str:
    if torch.version.cuda is None:
        finding = f"torch {torch.__version__} is a build for the CPU"
        remedy = "Install the CUDA build of the same version"
    elif not gpu_is_present():
        finding, remedy = "this machine has no NVIDIA GPU", "Choose a machine with one"
    else:
        finding = f"the NVIDIA driver is missing or too old for CUDA {torch.version.cuda}"
        driver = _DRIVERS.get(torch.version.cuda.partition(".")[0], "a newer driver")
        remedy = f"Install {driver} (in a container: pass the GPU to it)"
    return f"DEVICE={requested}: {finding}. {remedy}, or {USE_CPU}."


def _check_usable(device: torch.device) -> None:
    """Check that the torch build has code for this GPU, and that the GPU responds."""
    name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    builds = torch.cuda.get_arch_list()
    # ROCm builds have names such as gfx942, and their own check of the device.
    if torch.version.hip is None and not any(_runs_on(build, capability) for build in builds):
        own = f"sm_{capability[0]}{capability[1]}"
        raise CannotLoad(
            f"{name} ({own}) is not among the GPUs that torch {torch.__version__} was built for "
            f"({', '.join(builds)}). Install a torch build for {own}, or {USE_CPU}."
        )
    try:
        torch.ones(1, device=device).add_(1).item()
    except RuntimeError as error:
        line = str(error).strip().splitlines()[0]
        raise CannotLoad(f"{name} does not work: {line}. Check nvidia-smi, or {USE_CPU}.") from None


def _runs_on(build: str, capability: tuple[int, int]) -> bool:
    """Return whether code runs: machine code on later GPUs of its generation, `compute_` on all later ones."""
    kind, _, digits = build.partition("_")
    digits = "".join(character for character in digits if character.isdigit())
    if not digits:
        return False
    major, minor = int(digits[:-1]), int(digits[-1])
    if kind == "compute":
        return (major, minor) <= capability
    return major == capability[0] and minor <= capability[1]


def _dtype(requested: str, device: torch.device) -> torch.dtype:
    if requested == "int8":
        if device.type != "cpu":
            raise CannotLoad(f"TORCH_DTYPE=int8 is for CPUs, and the device is {device}. Set TORCH_DTYPE=auto.")
        return torch.float32
    if requested == "auto" and device.type == "cpu":
        log.info("TORCH_DTYPE=int8 is several times as fast on a CPU, with a small loss of precision")
    has_bfloat16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if requested == "auto":
        return torch.bfloat16 if has_bfloat16 else torch.float32
    if requested == "float16":
        log.warning("float16 is known to break on this model (infinite or undefined numbers), bfloat16 is safe")
    if requested == "bfloat16" and device.type == "cuda" and not has_bfloat16:
        log.warning("this GPU emulates bfloat16 slowly, float32 is faster")
    dtype: torch.dtype = getattr(torch, requested)
    return dtype
