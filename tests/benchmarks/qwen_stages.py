"""The stages of the engine's benchmark. Each returns its figures by name."""

import contextlib
import io
import itertools
import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from gpu_runner.engines import Finished, Utterance
from gpu_runner.engines.qwen.checkpoint.model import FRAMES_PER_SECOND, Model
from gpu_runner.engines.qwen.decoder import CHUNK
from gpu_runner.engines.qwen.engine import QwenEngine
from gpu_runner.engines.qwen.network import frame
from gpu_runner.engines.qwen.network.frame import FrameSize, make_frame
from gpu_runner.engines.qwen.network.graphs import GraphRunner, Runner
from gpu_runner.engines.qwen.network.kernels import kernels_for
from gpu_runner.engines.qwen.network.precision import choose_precision, float32_as, signal_to_noise
from gpu_runner.engines.qwen.network.slots import allocate
from pipeline.contract.records import Options
from tests.benchmarks.peak_memory import peak_bytes
from tests.benchmarks.qwen_load import TEXT, Size, clock, closed_loop, poisson, reference, utterances, voices
from tests.qwen.forced_logits import build_talker, error, given, logits_of_library, logits_of_ours
from tests.qwen.tiny_checkpoint import Sizes

Found = dict[str, Any]
LENGTH = 256
LOAD_SHARE = 0.6  # of what a closed loop reaches, for arrivals that come by chance


def logits(sizes: Sizes, device: str) -> Found:
    """How far logits of given codes are from the library's in float32, in parts of their spread."""
    small = replace(sizes, text_vocab=64)
    talker = build_talker(small, dtype=torch.float32, device=device)
    prompt, codes = given(talker)
    expected = logits_of_library(talker, prompt, codes)
    kernels = kernels_for(torch.device(device))
    found = {"float32": error(logits_of_ours(talker, prompt, codes, kernels), expected)}
    talker, prompt = talker.to(torch.bfloat16), prompt.to(torch.bfloat16)
    found["bfloat16"] = error(logits_of_ours(talker, prompt, codes, kernels), expected)
    found["bfloat16_of_library"] = error(logits_of_library(talker, prompt, codes), expected)
    return found


@torch.inference_mode()
def codec(model: Model) -> Found:
    """The codec's signal-to-noise ratios: in chunks against the library's whole, and in TF32 against float32."""
    random = torch.Generator().manual_seed(1)
    codes = torch.randint(0, model.codec.codebook_size, (1, 100, model.codec.groups), generator=random).to(
        model.device
    )
    with float32_as("ieee"):
        whole = model.speech_tokenizer.model.decoder(codes.transpose(1, 2))[:, 0]
        state, waves = model.codec.start(1), []
        for start in range(0, 100, CHUNK):
            position = torch.full((1,), start, device=model.device)
            wave, state = model.codec.decode(codes[:, start : start + CHUNK], state, position)
            waves.append(wave)
    noise = (torch.cat(waves, dim=1) - whole).pow(2).mean()
    chunked = float(10 * torch.log10(whole.pow(2).mean() / noise))
    found = {"chunked_snr_db": round(chunked, 1)}
    if model.device.type == "cuda":
        found["tf32_snr_db"] = round(signal_to_noise(model.codec), 1)
    return found


def prompts(engine: QwenEngine, size: Size) -> Found:
    """How long a voice prompt takes."""
    longest = reference(max(size.references))
    prompt = engine.make_prompt(longest)
    document = prompt.to_json()
    return {
        "make_ms": _least_ms(lambda: engine.make_prompt(longest)),
        "restore_ms": _least_ms(lambda: engine.restore_prompt(document)),
    }


def operations(model: Model) -> Found:
    """How many kernels a frame has, and how often the host waits within a frame."""
    slots = allocate(model.network, 1, LENGTH)
    size = FrameSize(1, LENGTH, few=True)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if model.device.type == "cuda" else [])]
    with torch.inference_mode():
        make_frame(model.network, slots, size)
        with profile(activities=activities) as profiled:
            make_frame(model.network, slots, size)
    events = profiled.events() or []
    on_device = [event for event in events if event.device_type == DeviceType.CUDA]
    syncs = [event for event in events if "Synchronize" in event.name or "_local_scalar_dense" in event.name]
    kernels = (
        len(on_device) if model.device.type == "cuda" else sum(event.name.startswith("aten::") for event in events)
    )
    return {"kernels_per_frame": kernels, "syncs_per_frame": len(syncs)}


@torch.inference_mode()
def parts(model: Model, rows: int, names: Sequence[str] = (), times: int = 10) -> Found:
    """How long the parts of a frame of so many rows take, in ms: each alone, replayed as a graph on a GPU.

    `names` selects some of them. Each runs four rounds of `times`.
    """
    network, slots = model.network, allocate(model.network, rows, LENGTH)
    slots.running.fill_(True)
    slots.cap.fill_(800)
    size, runner = FrameSize(rows, LENGTH, few=True), _runner(model)
    hidden = slots.token.clone()
    first = torch.zeros(rows, dtype=torch.long, device=model.device)
    numbers = torch.full((rows, network.groups), 0.5, dtype=torch.float64, device=model.device)
    codes = torch.zeros(rows, CHUNK, network.groups, dtype=torch.long, device=model.device)
    states, positions = model.codec.start(rows), torch.zeros(rows, dtype=torch.long, device=model.device)
    precision = choose_precision(model.codec)

    def decode() -> None:
        with float32_as(precision):
            model.codec.decode(codes, states, positions)

    functions: dict[str, Callable[[], Any]] = {
        "talker": lambda: frame._talk(network, slots, size),
        "first_code": lambda: frame._choose_first(network, slots, size, hidden, numbers[:, :1]),
        "predictor": lambda: frame._predict(network, slots, size, hidden, first, numbers),
        "frame": lambda: make_frame(network, slots, size),
        "codec_of_4_frames": decode,
    }
    chosen = names or tuple(functions)
    return {f"{name}_ms": _ms(runner, model, name, functions[name], times) for name in chosen}


def closed(engine: QwenEngine, size: Size, in_flight: int) -> Found:
    """Speak with so many in flight all the time."""
    texts = utterances(voices(engine, size), size)
    closed_loop(engine, texts, in_flight, in_flight)  # whatever is done for the first time
    return closed_loop(engine, texts, in_flight, in_flight * size.rounds).summary()


def arrivals(engine: QwenEngine, size: Size, found: Found) -> Found:
    """Speak what comes by chance, at a share of what a closed loop reached."""
    reached = max(one["audio_seconds_per_second"] for name, one in found.items() if name.startswith("closed_"))
    seconds = sum(size.frames) / 2 / FRAMES_PER_SECOND
    rate = LOAD_SHARE * reached / seconds
    texts = utterances(voices(engine, size), size, seed=2)
    count = engine.capacity * size.rounds
    return {"texts_per_second": round(rate, 2)} | poisson(engine, texts, rate, count).summary()


def seeds(engine: QwenEngine, size: Size, in_flight: int) -> Found:
    """Speak the same texts alone and together; give the share that says the same to the sample's rounding."""
    prompts = voices(engine, size)
    chosen = [next(utterances(prompts, size, seed=seed)) for seed in range(min(8, in_flight))]
    together = _heard(engine, chosen)
    same = sum(
        len(alone) == len(together[one.job_id]) and bool(np.abs(alone - together[one.job_id]).max() < 1e-2)
        for one in chosen
        for alone in [_heard(engine, [one])[one.job_id]]
    )
    return {"same_share": same / len(chosen)}


def memory(engine: QwenEngine, size: Size, device: str) -> Found:
    """Memory at most, and what a further load adds to what is held."""
    texts = utterances(voices(engine, size), size, seed=3)
    before = _held(device)
    closed_loop(engine, texts, engine.capacity, engine.capacity * size.rounds)
    peak = torch.cuda.max_memory_allocated() if device.startswith("cuda") else peak_bytes(os.getpid())
    return {"peak_gib": round(peak / 2**30, 3), "grown_mib": round((_held(device) - before) / 2**20, 1)}


def qwen_tts(checkpoint: Path, engine: QwenEngine, device: str, size: Size) -> Found:
    """Speak one text alone with plain qwen-tts, and with this engine; both from the prompt to the samples."""
    with contextlib.redirect_stdout(io.StringIO()):
        from qwen_tts import Qwen3TTSModel, VoiceClonePromptItem

    prompt, frames = voices(engine, size)[0], max(size.frames)
    options = Options(max_seconds=max(1.0, frames / FRAMES_PER_SECOND))
    frames = round((options.max_seconds or 1) * FRAMES_PER_SECOND)
    plain = Qwen3TTSModel.from_pretrained(str(checkpoint), device_map=device, dtype=engine.loaded.dtype)
    item = VoiceClonePromptItem(prompt.codes, prompt.speaker, False, True, prompt.transcript)
    never = plain.model.config.talker_config.vocab_size - 1  # an id that is never chosen

    def theirs() -> None:
        plain.generate_voice_clone(
            text=TEXT, voice_clone_prompt=[item], max_new_tokens=frames + 1, eos_token_id=never
        )

    ids = itertools.count()
    ours = _least_ms(lambda: _heard(engine, [Utterance(str(next(ids)), TEXT, prompt, options)]))
    plain_ms = _least_ms(theirs)
    return {
        "qwen_tts_ms_per_frame": round(plain_ms / frames, 2),
        "ours_ms_per_frame": round(ours / frames, 2),
        "times_as_fast": round(plain_ms / ours, 2),
    }


def _heard(engine: QwenEngine, chosen: list[Utterance]) -> dict[str, Any]:
    pieces: dict[str, list[Any]] = {one.job_id: [] for one in chosen}
    for one in chosen:
        engine.admit(one)
    left = len(chosen)
    while left:
        for event in engine.step():
            if isinstance(event, Finished):
                left -= 1
            else:
                pieces[event.job_id].append(event.samples)
    return {job_id: np.concatenate(samples) for job_id, samples in pieces.items()}


def _runner(model: Model) -> Runner:
    return GraphRunner(model.device) if model.device.type == "cuda" else Runner()


def _ms(runner: Runner, model: Model, name: str, function: Callable[[], Any], times: int) -> float:
    def run() -> None:
        for _ in range(times):
            runner.run(name, function)
        if model.device.type == "cuda":
            torch.cuda.synchronize()

    run()
    return round(_least_ms(run) / times, 3)


def _least_ms(what: Callable[[], Any], times: int = 3) -> float:
    """The least of several: whatever else the machine does only adds to it."""
    took = []
    for _ in range(times):
        began = clock()
        what()
        took.append(clock() - began)
    return round(min(took) * 1000, 2)


def _held(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated()
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()
