"""The watermark equals that of `resemble-perth`, whose networks need torch."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.audio.reference_audio import Samples
from pipeline.marking.checkpoints import installed_file
from pipeline.marking.watermark import detect
from pipeline.marking.watermark_encoder import WatermarkEncoder
from pipeline.marking.watermark_network import PACKAGE, WEIGHTS
from tests.support.speech import voice

RATE, LENGTH, HOP = 32_000, 2048, 320
MODEL = "perth.perth_net.perth_net_implicit.model"


@pytest.fixture(scope="module")
def perth() -> Iterator[Any]:
    """The networks of the package, imported without its `__init__`, which needs torchaudio."""
    root = Path(str(installed_file(PACKAGE, "perth/__init__.py"))).parent
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in (("perth", root), ("perth.perth_net", root / "perth_net")):
            package = ModuleType(name)
            package.__path__ = [str(folder)]
            patch.setitem(sys.modules, name, package)
        weights = torch.load(installed_file(PACKAGE, WEIGHTS), "cpu", weights_only=True)["model"]
        networks = SimpleNamespace(
            encoder=importlib.import_module(f"{MODEL}.encoder").Encoder(256, 128),
            decoder=importlib.import_module(f"{MODEL}.decoder").Decoder(256, 128),
        )
        for name, network in vars(networks).items():
            prefix = f"{name}."
            network.load_state_dict(
                {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
            )
        yield networks


@pytest.fixture
def samples() -> Samples:
    return voice(130, seconds=3, sample_rate=RATE).samples


def spectrum(samples: Samples) -> torch.Tensor:
    return torch.stft(
        torch.from_numpy(samples), LENGTH, HOP, LENGTH, torch.hann_window(LENGTH), return_complex=True
    )


def levels(samples: Samples) -> torch.Tensor:
    return (20 * torch.log10(spectrum(samples).abs().clip(1e-9)) + 180) / 195


@torch.no_grad()
def mark(perth: Any, samples: Samples) -> Samples:
    changed, _mask = perth.encoder(levels(samples)[None])
    magnitudes = 10 ** ((changed[0] * 195 - 180) / 20)
    marked = magnitudes * torch.exp(1j * spectrum(samples).angle())
    result: Samples = torch.istft(marked, LENGTH, HOP, LENGTH, torch.hann_window(LENGTH)).numpy()
    return result


def test_marked_samples_equal_reference(perth: Any, samples: Samples) -> None:
    expected = mark(perth, samples)
    encoder = WatermarkEncoder(RATE)
    marked = np.concatenate([encoder.add(samples), encoder.finish()])[: len(expected)]
    assert np.abs(expected - samples[: len(expected)]).max() > 1e-3
    assert np.allclose(marked, expected, atol=1e-6)


@pytest.mark.parametrize("is_marked", [False, True])
def test_score_equals_reference(perth: Any, samples: Samples, is_marked: bool) -> None:
    heard = mark(perth, samples) if is_marked else samples
    with torch.no_grad():
        expected = float(perth.decoder(levels(heard)[None])[0].clip(0, 1))
    assert detect(heard, RATE).score == pytest.approx(expected, abs=0.05)
    assert detect(heard, RATE).is_marked == is_marked
