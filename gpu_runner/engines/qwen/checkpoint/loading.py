"""Loads the model that the settings name onto its device; errors are reported in one line."""

import contextlib
import importlib.metadata
import io
import json
import time
import traceback
from pathlib import Path
from typing import Any

import structlog
import torch

from gpu_runner.engines import CannotLoad
from gpu_runner.engines.qwen.checkpoint import devices, stand_ins, weights
from gpu_runner.engines.qwen.checkpoint.devices import Placement
from gpu_runner.engines.qwen.failures import OutOfMemory, told_apart
from gpu_runner.engines.qwen.model import ROLE_TOKENS, SAMPLE_RATE, Identity, Model
from gpu_runner.engines.qwen.network.sampling import Sampling
from pipeline.settings import Settings

log = structlog.get_logger()

# The codec stays in float32 whatever the talker's precision: its codes, and so the voice prompts, depend on it.
CODEC_DTYPE = torch.float32


def open_model(settings: Settings) -> Model:
    """Load the model that the settings name.

    Raises
    ------
    CannotLoad
        It can't be loaded here; the message says why, and what to do.
    """
    began = time.monotonic()
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    placement = devices.resolve(settings)
    devices.use(placement)
    checkpoint = weights.locate(settings.qwen_tts_model_id, settings.qwen_tts_revision)
    weights.check_memory(checkpoint.directory, placement.device, placement.dtype)
    _check_kind(checkpoint.directory)
    identity = Identity(
        checkpoint.model, checkpoint.revision, str(CODEC_DTYPE).removeprefix("torch."), _library_version()
    )
    model = _guarded_load(checkpoint.directory, placement, identity)
    log.info(
        "model loaded",
        model=identity.model,
        model_asked=settings.qwen_tts_model_id,
        revision=identity.revision,
        device=str(model.device),
        seconds=round(time.monotonic() - began, 1),
    )
    return model


def _library_version() -> str:
    try:
        return f"qwen-tts {importlib.metadata.version('qwen-tts')}"
    except importlib.metadata.PackageNotFoundError:
        raise CannotLoad(
            "The package qwen-tts is not installed; `python requirements/qwen.py` installs it, with what it needs."
        ) from None


def _check_kind(directory: Path) -> None:
    try:
        config = json.loads((directory / "config.json").read_bytes())
        kind, size = config.get("tts_model_type"), config.get("tokenizer_type")
    except (ValueError, AttributeError):
        raise CannotLoad(f"{directory / 'config.json'} is damaged; fetch the model again.") from None
    if (kind, size) != ("base", "qwen3_tts_tokenizer_12hz"):
        raise CannotLoad(
            f"{directory} holds a {kind or 'different'} model with {size}; cloning a voice takes a 12 Hz Base "
            "model, such as Qwen/Qwen3-TTS-12Hz-0.6B-Base."
        )


def _guarded_load(directory: Path, placement: Placement, identity: Identity) -> Model:
    try:
        with told_apart():
            return _load(directory, placement, identity)
    except OutOfMemory as error:
        raise CannotLoad(
            f"The model does not fit on {placement.device} ({error}); free some memory, or use a smaller model."
        ) from None
    except CannotLoad:
        raise
    except Exception as error:
        # Any error of the libraries on a damaged file; the traceback is logged at DEBUG.
        log.debug("loading failed", traceback=traceback.format_exc())
        line = (str(error).strip().splitlines() or [""])[0]
        raise CannotLoad(
            f"The model in {directory} can't be loaded ({type(error).__name__}: {line}); fetch it again, "
            "and see that transformers is the version in requirements/qwen.lock."
        ) from None


def _load(directory: Path, placement: Placement, identity: Identity) -> Model:
    library = import_library()
    network = library.Network.from_pretrained(
        directory, dtype=placement.dtype, device_map=placement.device_map, local_files_only=True
    ).eval()
    _check_one_device(network, placement)
    codec = library.Codec.from_pretrained(
        directory / "speech_tokenizer", dtype=CODEC_DTYPE, device_map={"": str(network.talker.device)}
    )
    network.load_speech_tokenizer(codec)
    model = Model(
        network=network,
        codec=codec,
        # The flag is the library's own; without it the tokenizer's pattern is mistaken for a broken one.
        tokenizer=library.Processor.from_pretrained(directory, fix_mistral_regex=True).tokenizer,
        defaults=Sampling.of_config(json.loads((directory / "generation_config.json").read_bytes())),
        identity=identity,
        dtype=placement.dtype,
    )
    if len(model.role) != ROLE_TOKENS:
        raise ValueError(f"the tokenizer makes {len(model.role)} tokens of the role, not {ROLE_TOKENS}")
    return model


class Library:
    """The classes of `qwen_tts` in use."""

    def __init__(self) -> None:
        from qwen_tts.core.models import Qwen3TTSForConditionalGeneration, Qwen3TTSProcessor
        from qwen_tts.core.models.modeling_qwen3_tts import Qwen3TTSTokenizer

        # The class's own `from_pretrained` would load the codec too, in the talker's precision.
        self.Network: Any = super(Qwen3TTSForConditionalGeneration, Qwen3TTSForConditionalGeneration)
        self.Codec: Any = Qwen3TTSTokenizer
        self.Processor: Any = Qwen3TTSProcessor

    def warm_up(self) -> None:
        """Run what is compiled or cached when the first reference is read; no model is needed for it."""
        from qwen_tts.core.models.modeling_qwen3_tts import mel_spectrogram

        second = torch.zeros(1, SAMPLE_RATE)
        mel_spectrogram(second, 1024, 128, SAMPLE_RATE, hop_size=256, win_size=1024, fmin=0, fmax=12_000)


def import_library() -> Library:
    """Import `qwen_tts` without its unused dependencies, and without its message on stdout."""
    stand_ins.install()
    with contextlib.redirect_stdout(io.StringIO()):
        return Library()


def _check_one_device(network: Any, placement: Placement) -> None:
    places = {str(parameter.device) for parameter in network.parameters()}
    if len(places) != 1 or "meta" in places:  # meta: offloaded until it is used
        raise CannotLoad(
            f"DEVICE_MAP puts the model on {', '.join(sorted(places))}, and speech needs all of it on one device; "
            f"unset DEVICE_MAP and choose a device with room, such as DEVICE={placement.device}."
        )
