"""Reads float32 weights from torch checkpoints, without torch.

A checkpoint is a pickle with references to tensor data, in a zip archive or, before torch 1.6, in one file (see
`torch.serialization`). The names in the pickle are restricted to three, which construct plain data. So a checkpoint
can't run code.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_ITEM_BYTES = 4

ReadStorage = Callable[[str], bytes]


class InvalidCheckpoint(Exception):
    """The file is no checkpoint, or it contains something other than float32 tensors in plain containers."""


class PackageMissing(Exception):
    """The package with the weights is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(f"The package {package} is not installed.")
        self.package = package


class _Tensor(NamedTuple):
    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def installed_file(package: str, name: str) -> Path:
    """Return the path of a package's file, such as `resemblyzer/pretrained.pt`, without importing the package.

    Raises
    ------
    PackageMissing
        The package or the file is not installed.
    """
    try:
        path = Path(str(metadata.distribution(package).locate_file(name)))
    except metadata.PackageNotFoundError:
        raise PackageMissing(package) from None
    if not path.is_file():
        raise PackageMissing(package)
    return path


def read_checkpoint(path: Path, prefix: str = "") -> Any:
    """Return the content of a checkpoint, with float32 arrays instead of tensors.

    Only the tensors whose names begin with `prefix` are read.

    Raises
    ------
    InvalidCheckpoint
        The content is not supported.
    """
    try:
        if not zipfile.is_zipfile(path):
            return _read_legacy(path, prefix)
        with zipfile.ZipFile(path) as archive:
            document = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            folder = document.removesuffix("data.pkl")
            with archive.open(document) as file:
                content = _Unpickler(file).load()
            return _to_arrays(content, lambda key: archive.read(f"{folder}data/{key}"), prefix)
    except (
        pickle.UnpicklingError,
        StopIteration,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise InvalidCheckpoint(f"{path.name}: {error!r}") from error


def _read_legacy(path: Path, prefix: str) -> Any:
    with path.open("rb") as file:
        if _Unpickler(file).load() != LEGACY_MAGIC:
            raise InvalidCheckpoint(f"{path.name} is no checkpoint.")
        _version, _system, content, keys = (_Unpickler(file).load() for _ in range(4))
        return _to_arrays(content, {key: _next_storage(file) for key in keys}.__getitem__, prefix)


def _next_storage(file: IO[bytes]) -> bytes:
    length = int.from_bytes(file.read(8), "little")
    return file.read(length * _ITEM_BYTES)


def _rebuild_tensor(
    storage: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


class _Unpickler(pickle.Unpickler):
    _NAMES: Mapping[tuple[str, str], object] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch", "FloatStorage"): "float32",
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._NAMES:
            raise InvalidCheckpoint(f"The checkpoint contains {module}.{name}.")
        return self._NAMES[module, name]

    def persistent_load(self, pid: Any) -> str:
        _kind, _type, key, *_rest = pid
        return str(key)


def _to_arrays(content: Any, read: ReadStorage, prefix: str) -> Any:
    if isinstance(content, _Tensor):
        return _to_array(content, read)
    if isinstance(content, dict):
        items = dict.items(content)
        return {
            key: _to_arrays(value, read, prefix)
            for key, value in items
            if not isinstance(value, _Tensor) or str(key).startswith(prefix)
        }
    if isinstance(content, list | tuple):
        return [_to_arrays(value, read, prefix) for value in content]
    return content


def _to_array(tensor: _Tensor, read: ReadStorage) -> "NDArray[np.float32]":
    import numpy as np  # here, because the API imports the errors of this module

    values = np.frombuffer(read(tensor.storage), "<f4")[tensor.offset :]
    count = int(np.prod(tensor.shape))
    contiguous = tuple(int(np.prod(tensor.shape[axis + 1 :])) for axis in range(len(tensor.shape)))
    if tuple(tensor.strides) != contiguous:
        raise ValueError("a tensor is not contiguous")
    return values[:count].reshape(tensor.shape).astype(np.float32)
