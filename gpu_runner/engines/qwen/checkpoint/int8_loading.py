"""Loads a model with int8 layers, matrix by matrix, so that it never needs the memory of the whole in float32.

The quantized matrices are cached in a file beside the checkpoint.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import accelerate
import structlog
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gpu_runner.engines.qwen.network.int8 import quantize

log = structlog.get_logger()

CACHE = "layers-int8.safetensors"
_TEXT_EMBEDDINGS = "talker.model.text_embedding.weight"  # a quarter of the model; read as float32, row by row


def load_int8(model_class: Any, directory: Path, files: Sequence[Path], revision: str) -> Any:
    """Load a model, float32 except for its layers and the stored table of text embeddings.

    Parameters
    ----------
    model_class
        `Qwen3TTSForConditionalGeneration`.
    directory, files
        The checkpoint, and the files with the weights in it.
    revision
        Identifies the weights. A cache of another revision is replaced.
    """
    config = model_class.config_class.from_pretrained(directory)
    with accelerate.init_empty_weights():
        model = model_class(config).eval().requires_grad_(requires_grad=False)  # integers have no gradients
    names = set(_add_scales(model))
    layers = _cached(directory / CACHE, revision)
    if layers is None:
        layers = _quantized(files, names)
        _write(directory / CACHE, layers, revision)
        layers = _cached(directory / CACHE, revision) or layers  # mapped from the file, which frees memory
    rest = {
        name: weight if name == _TEXT_EMBEDDINGS else weight.float()
        for name, weight in _weights(files, lambda name: name not in names)
    }
    model.load_state_dict(rest | layers, strict=True, assign=True)
    return model


def _add_scales(model: Any) -> Iterator[str]:
    """Add a scale to each linear layer of both transformers, and yield the names of their weights."""
    for prefix in ("talker.model.layers", "talker.code_predictor.model.layers"):
        for path, module in model.get_submodule(prefix).named_modules(prefix=prefix):
            if isinstance(module, nn.Linear):
                module.register_buffer("scale", torch.empty(module.out_features, device="meta"))
                yield f"{path}.weight"


def _quantized(files: Sequence[Path], names: Set[str]) -> dict[str, Tensor]:
    """Return the quantized matrices of these names, with their scales."""
    layers: dict[str, Tensor] = {}
    for name, weight in _weights(files, names.__contains__):
        layers[name], layers[name.removesuffix("weight") + "scale"] = quantize(weight)
    return layers


def _weights(files: Sequence[Path], is_read: Callable[[str], bool]) -> Iterator[tuple[str, Tensor]]:
    for file in files:
        with safe_open(file, "pt") as content:
            for name in filter(is_read, content.keys()):
                yield name, content.get_tensor(name)


def _cached(file: Path, revision: str) -> dict[str, Tensor] | None:
    try:
        with safe_open(file, "pt") as content:
            if (content.metadata() or {}).get("revision") != revision:
                return None
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - it is no dict
    except (OSError, SafetensorError):
        return None


def _write(file: Path, layers: dict[str, Tensor], revision: str) -> None:
    unfinished = file.with_suffix(".unfinished")
    try:
        save_file(layers, unfinished, metadata={"revision": revision})
        unfinished.replace(file)
    except (OSError, SafetensorError) as error:
        log.warning("the quantized layers can't be cached, and are made again at the next start", reason=str(error))
        unfinished.unlink(missing_ok=True)
