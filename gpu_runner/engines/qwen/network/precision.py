"""The float32 precision on a GPU: full, or TF32, whose 10-bit mantissa is an order of magnitude faster."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import structlog
import torch
from torch import Tensor

from gpu_runner.engines.qwen.network.codec import Codec

log = structlog.get_logger()

Precision = Literal["ieee", "tf32"]

LEAST_SNR = 50.0  # dB: the error is then inaudible next to speech
FRAMES = 32

_changing = threading.RLock()


def set_precision(precision: Precision) -> None:
    """Set the float32 precision of matrix products and convolutions, for the whole process."""
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]


@contextmanager
def float32_as(precision: Precision) -> Iterator[None]:
    """Set the float32 precision inside the context. Graphs captured in it keep that precision.

    It is the whole process's: another thread waits to enter such a context until this one is left.
    """
    with _changing:
        before: Precision = torch.backends.cuda.matmul.fp32_precision
        set_precision(precision)
        try:
            yield
        finally:
            set_precision(before)


def choose_precision(codec: Codec) -> Precision:
    """Choose the codec's precision: TF32 if the signal-to-noise ratio of its samples is high enough."""
    if codec.device.type != "cuda":
        return "ieee"
    ratio = signal_to_noise(codec)
    chosen: Precision = "tf32" if ratio >= LEAST_SNR else "ieee"
    log.info("precision of the codec chosen", precision=chosen, snr_db=round(ratio, 1), least_db=LEAST_SNR)
    return chosen


@torch.inference_mode()
def signal_to_noise(codec: Codec) -> float:
    """Measure the samples in TF32 against those in full precision, in dB, on frames of random codes."""
    exact, other = (_decoded(codec, precision) for precision in ("ieee", "tf32"))
    noise = (exact - other).pow(2).mean().clamp(min=1e-20)
    return float(10 * torch.log10(exact.pow(2).mean() / noise))


def _decoded(codec: Codec, precision: Precision) -> Tensor:
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(0, codec.codebook_size, (1, FRAMES, codec.groups), generator=random).to(codec.device)
    with float32_as(precision):
        samples, _ = codec.decode(codes, codec.start(1), torch.zeros(1, dtype=torch.long, device=codec.device))
    return samples
