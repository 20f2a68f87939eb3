"""Loads the model of the settings onto its device. Errors are reported in one line."""

import contextlib
import importlib
import importlib.metadata
import io
import json
import time
import traceback
from pathlib import Path
from typing import Any

import structlog
import torch
import transformers

from gpu_runner.engines import CannotLoad, OnStart
from gpu_runner.engines.qwen.checkpoint import devices, stub_modules, weights
from gpu_runner.engines.qwen.checkpoint.devices import Placement
from gpu_runner.engines.qwen.checkpoint.int8_loading import load_int8
from gpu_runner.engines.qwen.checkpoint.model import ROLE_TOKENS, SAMPLE_RATE, Identity, Model
from gpu_runner.engines.qwen.checkpoint.out_of_memory import OutOfMemory, translate_device_errors
from gpu_runner.engines.qwen.network.sampling import Sampling
from pipeline.contract.engines import EngineStart
from pipeline.settings import Settings

log = structlog.get_logger()

# The codec stays in float32, whatever the talker's precision: the codes of voice prompts depend on it.
CODEC_DTYPE = torch.float32


def open_model(settings: Settings, on_start: OnStart = lambda _: None) -> Model:
    """Load the model of the settings.

    Raises
    ------
    CannotLoad
        It can't be loaded here. The message gives the reason and a remedy in one line.
    """
    began = time.monotonic()
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    placement = devices.resolve(settings)
    devices.use(placement, settings.attention_backend)
    checkpoint = weights.locate(settings.qwen_tts_model_id, settings.qwen_tts_revision, on_start)
    on_start(EngineStart(phase="loading"))
    weights.check_memory(checkpoint.directory, placement)
    _check_kind(checkpoint.directory)
    identity = Identity(
        checkpoint.model, checkpoint.revision, str(CODEC_DTYPE).removeprefix("torch."), _library_version()
    )
    model = _guarded_load(checkpoint.directory, placement, identity)
    log.info(
        "model loaded",
        model=identity.model,
        model_requested=settings.qwen_tts_model_id,
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
            "The package qwen-tts is not installed. Run `python requirements/qwen.py` to install it."
        ) from None


def _check_kind(directory: Path) -> None:
    try:
        config = json.loads((directory / "config.json").read_bytes())
        kind, size = config.get("tts_model_type"), config.get("tokenizer_type")
    except (ValueError, AttributeError):
        raise CannotLoad(f"{directory / 'config.json'} is damaged. Download the model again.") from None
    if (kind, size) != ("base", "qwen3_tts_tokenizer_12hz"):
        raise CannotLoad(
            f"{directory} contains a {kind or 'different'} model with {size}. Voice cloning needs a 12 Hz "
            "Base model, such as Qwen/Qwen3-TTS-12Hz-0.6B-Base."
        )


def _guarded_load(directory: Path, placement: Placement, identity: Identity) -> Model:
    try:
        with translate_device_errors():
            return _load(directory, placement, identity)
    except OutOfMemory as error:
        raise CannotLoad(
            f"The model does not fit on {placement.device} ({error}). Free some memory, or use a smaller model."
        ) from None
    except CannotLoad:
        raise
    except Exception as error:
        # Any error of the libraries on a damaged file; the traceback is logged at DEBUG.
        log.debug("loading failed", traceback=traceback.format_exc())
        line = (str(error).strip().splitlines() or [""])[0]
        raise CannotLoad(
            f"The model in {directory} can't be loaded ({type(error).__name__}: {line}). Download it again, "
            "and check that transformers has the version in requirements/qwen.lock."
        ) from None


def _load(directory: Path, placement: Placement, identity: Identity) -> Model:
    library = import_library()
    model_class = library.Qwen3TTSForConditionalGeneration
    if placement.int8:
        files = weights.weight_files(directory / weights.WEIGHTS[0])
        pretrained = load_int8(model_class, directory, files, identity.revision)
    else:
        # The class's own `from_pretrained` would load the speech tokenizer too, in the talker's precision.
        load = transformers.PreTrainedModel.from_pretrained.__func__
        device = {"": str(placement.device)}
        pretrained = load(
            model_class, directory, dtype=placement.dtype, device_map=device, local_files_only=True
        ).eval()
    speech_tokenizer = library.modeling_qwen3_tts.Qwen3TTSTokenizer.from_pretrained(
        directory / "speech_tokenizer", dtype=CODEC_DTYPE, device_map={"": str(pretrained.talker.device)}
    )
    pretrained.load_speech_tokenizer(speech_tokenizer)
    # The flag is the library's own. Without it the tokenizer's pattern is mistaken for a broken one.
    processor = library.Qwen3TTSProcessor.from_pretrained(directory, fix_mistral_regex=True)
    model = Model(
        pretrained=pretrained,
        speech_tokenizer=speech_tokenizer,
        tokenizer=processor.tokenizer,
        defaults=Sampling.of_config(json.loads((directory / "generation_config.json").read_bytes())),
        identity=identity,
        dtype=placement.dtype,
        int8=placement.int8,
    )
    if len(model.role) != ROLE_TOKENS:
        raise ValueError(f"the tokenizer makes {len(model.role)} tokens of the role, not {ROLE_TOKENS}")
    return model


def import_library() -> Any:
    """Import `qwen_tts.core.models` without its unused dependencies, and without its message on stdout."""
    stub_modules.install()
    with contextlib.redirect_stdout(io.StringIO()):
        return importlib.import_module("qwen_tts.core.models")


def warm_up_library() -> None:
    """Run the code that is compiled or cached when the first reference is read. It needs no model."""
    second = torch.zeros(1, SAMPLE_RATE)
    import_library().modeling_qwen3_tts.mel_spectrogram(
        second, 1024, 128, SAMPLE_RATE, hop_size=256, win_size=1024, fmin=0, fmax=12_000
    )
