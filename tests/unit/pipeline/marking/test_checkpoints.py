import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.marking.checkpoints import InvalidCheckpoint, PackageMissing, installed_file, read_checkpoint

PERTH = ("resemble-perth", "perth/perth_net/pretrained/implicit/perth_net_250000.pth.tar")
RESEMBLYZER = ("Resemblyzer", "resemblyzer/pretrained.pt")


class Call:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 + 1",)


def test_zip_checkpoint_has_weights() -> None:
    weights = read_checkpoint(installed_file(*PERTH))["model"]
    assert weights["encoder.layers.1.conv.weight"].shape == (256, 256, 7)
    assert weights["encoder.layers.1.conv.weight"].dtype == np.float32
    assert all(np.isfinite(values).all() and values.any() for values in weights.values())


def test_legacy_checkpoint_has_weights() -> None:
    weights = read_checkpoint(installed_file(*RESEMBLYZER))["model_state"]
    assert weights["lstm.weight_ih_l0"].shape == (1024, 40)
    assert weights["linear.weight"].shape == (256, 256)
    assert all(np.isfinite(values).all() for values in weights.values())


@pytest.mark.parametrize("content", [Call(), {"model": Call()}, np.float32, b"a" * 100])
def test_checkpoint_with_other_content_is_rejected(tmp_path: Path, content: object) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InvalidCheckpoint):
        read_checkpoint(path)


def test_zip_checkpoint_with_code_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"model": Call()}))
    with pytest.raises(InvalidCheckpoint, match="eval"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", [("no-such-package", "a.pt"), ("Resemblyzer", "resemblyzer/no-such-file.pt")])
def test_missing_file_names_package(name: tuple[str, str]) -> None:
    with pytest.raises(PackageMissing, match=name[0]):
        installed_file(*name)


@pytest.mark.parametrize("data", [b"", b"PK", pickle.dumps(1), b"\x80\x02K"])
def test_damaged_checkpoint_is_rejected(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(data)
    with pytest.raises(InvalidCheckpoint):
        read_checkpoint(path)
