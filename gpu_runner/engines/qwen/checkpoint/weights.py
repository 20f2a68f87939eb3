"""The files of a model: in a local directory or downloaded from the hub, and checked before they are loaded."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from gpu_runner.engines import CannotLoad, OnStart
from gpu_runner.engines.qwen.checkpoint.devices import Placement
from gpu_runner.engines.qwen.checkpoint.download import download

# The revisions that this version was tested with. A setting selects another.
PINNED = {
    "Qwen/Qwen3-TTS-12Hz-0.6B-Base": "5d83992436eae1d760afd27aff78a71d676296fc",
    "Qwen/Qwen3-TTS-12Hz-1.7B-Base": "fd4b254389122332181a7c3db7f27e918eec64e3",
}
NEEDED = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "speech_tokenizer/config.json",
    "speech_tokenizer/preprocessor_config.json",
)
WEIGHTS = ("model.safetensors", "speech_tokenizer/model.safetensors")
_SAMPLE = 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete model on disk, with its name and exact revision."""

    directory: Path
    model: str
    revision: str


def name_of(model_id: str) -> str:
    """Return the name of a model. For a local model it does not contain the path."""
    directory = Path(model_id).expanduser()
    return directory.resolve().name if directory.is_dir() else model_id


def locate(model_id: str, revision: str | None, on_start: OnStart = lambda _: None) -> Checkpoint:
    """Locate a model, downloading it if necessary.

    Raises
    ------
    CannotLoad
        It does not exist and can't be downloaded, or it is incomplete.
    DownloadFailed
        It can't be downloaded at present.
    """
    directory = Path(model_id).expanduser()
    if directory.is_dir():
        _check_whole(directory, f"QWEN_TTS_MODEL_ID={model_id}")
        return Checkpoint(directory, name_of(model_id), fingerprint(directory))
    if model_id.startswith((".", "/", "~", "\\")) or model_id.count("/") != 1:
        raise CannotLoad(
            f"QWEN_TTS_MODEL_ID={model_id}: there is no such directory. Use one that contains the model, "
            "or an id such as Qwen/Qwen3-TTS-12Hz-0.6B-Base."
        )
    wanted = revision or PINNED.get(model_id, "main")
    snapshot = _cached(model_id, wanted) or download(model_id, wanted, on_start)
    _check_whole(snapshot, f"{model_id} at revision {wanted}")
    return Checkpoint(snapshot, model_id, snapshot.name)


def _cached(model_id: str, revision: str) -> Path | None:
    """Return the cached model, if any: without a network, a request to the hub would hang for minutes."""
    try:
        snapshot = Path(snapshot_download(model_id, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return None if _missing(snapshot) else snapshot


def _check_whole(directory: Path, what: str) -> None:
    if missing := _missing(directory):
        raise CannotLoad(f"{what}: {', '.join(missing)} missing in {directory}. Download the model again.")
    weights = [file for name in WEIGHTS for file in weight_files(directory / name)]
    files = [*(directory / name for name in NEEDED), *weights]
    if closed := [str(file.relative_to(directory)) for file in files if not os.access(file, os.R_OK)]:
        raise CannotLoad(f"{what}: {', '.join(closed)} in {directory} can't be read by the user of this process.")


def _missing(directory: Path) -> list[str]:
    names = [name for name in NEEDED if not (directory / name).is_file()]
    return names + [name for name in WEIGHTS if not weight_files(directory / name)]


def weight_files(path: Path) -> list[Path]:
    """Return the weight file, or all files of an index. The list is empty if one is missing."""
    if path.is_file():
        return [path]
    try:
        index = json.loads(path.with_name(path.name + ".index.json").read_bytes())
        files = sorted({path.with_name(name) for name in index["weight_map"].values()})
    except (OSError, ValueError, KeyError, AttributeError):
        return []
    return files if all(file.is_file() for file in files) else []


def fingerprint(directory: Path) -> str:
    """Return a hash of the configuration and of samples of the weights, which identifies a local model.

    Reading all of the weights would take as long as loading them.
    """
    digest = hashlib.sha256((directory / "config.json").read_bytes())
    for name in WEIGHTS:
        for file in weight_files(directory / name):
            _add_samples(digest, file)
    return f"sha256:{digest.hexdigest()[:32]}"


def _add_samples(digest: Any, file: Path) -> None:
    size = file.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with file.open("rb") as content:
        for start in sorted({*range(0, size, max(_SAMPLE, size // 8)), max(0, size - _SAMPLE)}):
            content.seek(start)
            digest.update(content.read(_SAMPLE))


def check_memory(directory: Path, placement: Placement) -> None:
    """Check that the weights fit into memory.

    Raises
    ------
    CannotLoad
        They do not fit.
    """
    talker, codec = (weight_files(directory / name) for name in WEIGHTS)
    # With int8 layers, the text embeddings keep the 16 bits that they are stored with.
    itemsize = 2 if placement.int8 else placement.dtype.itemsize
    needed = sum(_bytes_as(file, itemsize) for file in talker) + sum(_bytes_as(file, 4) for file in codec)
    free = free_memory(placement.device)
    if free is not None and free < needed:
        raise CannotLoad(
            f"The model needs {needed / 2**30:.1f} GiB for its weights in {placement.precision}, and "
            f"{placement.device} has {free / 2**30:.1f} GiB free. Use a larger device or a smaller model."
        )


def free_memory(device: torch.device) -> int | None:
    """Return the free memory in bytes, or None if it is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    available = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(available[0]) * 1024 if available else None


def _bytes_as(file: Path, itemsize: int) -> int:
    """Return the size of a safetensors file's tensors in another precision, without reading them."""
    try:
        with safetensors.safe_open(file, "pt") as content:  # it checks the header against the file's size
            tensors = map(content.get_tensor, content.keys())
            return sum(one.numel() * (itemsize if one.is_floating_point() else one.itemsize) for one in tensors)
    except (safetensors.SafetensorError, OSError) as error:
        raise CannotLoad(f"{file} is damaged ({error}). Download the model again.") from None
