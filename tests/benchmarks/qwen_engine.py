"""Times the Qwen3-TTS engine with random weights: how fast it is does not hang on what they have learned.

    python -m tests.benchmarks.qwen_engine [--sizes published|tiny] [--device cuda:0|cpu] [--frames 125]
        [--results docs/benchmarks/<gpu>.json]

The sizes are the published 0.6B's on a GPU and tiny ones on a CPU, unless told.  Speech never ends by itself here:
every utterance takes exactly `--frames` frames of 80 ms.  The plain library is timed beside it, one text at a time.
`--results` writes how long a frame takes, for the simulation of scaling to go by.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_runner.engines import Finished, Reference, Utterance
from gpu_runner.engines.qwen import load
from gpu_runner.engines.qwen.engine import QwenEngine
from gpu_runner.engines.qwen.model import FRAMES_PER_SECOND, SAMPLE_RATE
from gpu_runner.engines.qwen.prompts import QwenPrompt
from pipeline.audio.reference_audio import Recording
from pipeline.contract.records import Options
from pipeline.settings import Settings
from tests.qwen import tiny_checkpoint

IN_FLIGHT = (1, 8, 32)
REFERENCE_SECONDS = 10.0
SAID = "This is what the speaker says in the ten seconds of the reference, at the pace of one who reads to others."
TEXT = "Here is a text of the length that people try a voice with: two sentences or three. It is the same for all."
SIZES = {"published": tiny_checkpoint.PUBLISHED, "tiny": tiny_checkpoint.TINY}


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is measured on what."""

    checkpoint: Path
    sizes: str
    device: str
    frames: int
    plain_texts: int

    @property
    def settings(self) -> Settings:
        return Settings(
            qwen_tts_model_id=str(self.checkpoint), device=self.device, worker_batch_size=max(IN_FLIGHT)
        )

    @property
    def options(self) -> Options:
        return Options(max_seconds=self.frames / FRAMES_PER_SECOND)


def reference() -> Reference:
    time_ = np.arange(int(REFERENCE_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time_)
    return Reference(
        Recording((0.3 * np.sin(2 * np.pi * 150 * time_) * syllables).astype(np.float32), SAMPLE_RATE), SAID
    )


def never_ending(engine: QwenEngine) -> QwenEngine:
    with torch.inference_mode():
        engine.loaded.never[engine.loaded.end] = True
    return engine


def speak(engine: QwenEngine, prompt: QwenPrompt, options: Options, count: int) -> None:
    for number in range(count):
        engine.admit(Utterance(str(number), TEXT, prompt, options))
    left = count
    while left:
        for event in engine.step():
            if isinstance(event, Finished):
                assert event.error is None
                left -= 1
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(what: Callable[[], Any]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def least_seconds(what: Callable[[], Any], times: int = 5) -> float:
    """The least of several: whatever else the machine does only adds to it."""
    return min(seconds(what) for _ in range(times))


def memory_gib(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform != "darwin" else peak / 2**30


def measure(plan: Plan, ms_per_frame: dict[int, float]) -> Iterator[tuple[str, str]]:
    """Give lines of a table, as they come, and fill in how long a frame takes by how many are in flight."""
    length = plan.frames / FRAMES_PER_SECOND
    yield f"start of the process to the end of its first preview ({length:g} s)", f"{first_preview(plan):.1f} s"
    engine = never_ending(load(plan.settings))
    yield "memory with the model loaded", f"{memory_gib(plan.device):.2f} GiB"
    yield from measure_prompts(plan, engine)
    prompt = engine.make_prompt(reference())
    speak(engine, prompt, Options(max_seconds=1), 1)
    for count in IN_FLIGHT:
        took = least_seconds(lambda count=count: speak(engine, prompt, plan.options, count), 3)  # type: ignore[misc]
        ms_per_frame[count] = took / plan.frames * 1000
        yield (
            f"{count} in flight",
            f"{ms_per_frame[count]:.1f} ms a frame, {count * length / took:.2f} × real time",
        )
    yield f"memory at most, with {max(IN_FLIGHT)} in flight", f"{memory_gib(plan.device):.2f} GiB"
    yield from measure_library(plan, prompt)


def measure_prompts(plan: Plan, engine: QwenEngine) -> Iterator[tuple[str, str]]:
    one = reference()
    spoken_only = dataclasses.replace(one, transcription="")
    prompt = engine.make_prompt(one)
    document = prompt.to_json()
    what = f"of {REFERENCE_SECONDS:g} s"
    yield f"prompt {what}, in context", f"{least_seconds(lambda: engine.make_prompt(one)) * 1000:.0f} ms"
    yield (
        f"prompt {what}, speaker's vector",
        f"{least_seconds(lambda: engine.make_prompt(spoken_only)) * 1000:.0f} ms",
    )
    yield (
        f"prompt restored from {len(document) / 1000:.0f} KB",
        f"{least_seconds(lambda: engine.restore_prompt(document)) * 1000:.1f} ms",
    )
    ways: dict[str, Callable[[], QwenPrompt]] = {
        "on": lambda: prompt,
        "off, prompt stored": lambda: engine.restore_prompt(document),
        "off, prompt made each time": lambda: engine.make_prompt(one),
    }
    for name, give in ways.items():
        took = least_seconds(lambda give=give: speak(engine, give(), plan.options, 1), 3)  # type: ignore[misc]
        yield f"preview of {plan.frames / FRAMES_PER_SECOND:g} s, prompt cache {name}", f"{took * 1000:.0f} ms"


def measure_library(plan: Plan, prompt: QwenPrompt) -> Iterator[tuple[str, str]]:
    with contextlib.redirect_stdout(io.StringIO()):
        from qwen_tts import Qwen3TTSModel, VoiceClonePromptItem

    dtype = torch.bfloat16 if plan.device.startswith("cuda") else torch.float32
    library = Qwen3TTSModel.from_pretrained(str(plan.checkpoint), device_map=plan.device, dtype=dtype)
    item = VoiceClonePromptItem(prompt.codes, prompt.speaker, False, True, prompt.transcript)
    never = library.model.config.talker_config.vocab_size - 1  # an id that is never chosen

    def speak_one() -> None:
        library.generate_voice_clone(
            text=TEXT, voice_clone_prompt=[item], max_new_tokens=plan.frames + 1, eos_token_id=never
        )

    speak_one()
    took = least_seconds(speak_one, plan.plain_texts)
    length = plan.frames / FRAMES_PER_SECOND
    yield (
        "plain qwen-tts, one by one",
        f"{took / plan.frames * 1000:.1f} ms a frame, {length / took:.2f} × real time",
    )


def first_preview(plan: Plan) -> float:
    """Start a process that loads the model, makes a prompt and speaks; give the seconds until it is done."""
    told = json.dumps(dataclasses.asdict(plan) | {"checkpoint": str(plan.checkpoint)})
    command = [sys.executable, "-m", "tests.benchmarks.qwen_engine", "--first-preview", told]
    return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def speak_first_preview(plan: Plan) -> None:
    engine = never_ending(load(plan.settings))
    speak(engine, engine.make_prompt(reference()), plan.options, 1)


def machine(device: str) -> str:
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    return f"{name} CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"


def write_results(file: Path, plan: Plan, ms_per_frame: dict[int, float]) -> None:
    results = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(plan.device),
        "device": plan.device,
        "sizes": plan.sizes,
        "ms_per_frame": {count: round(ms, 2) for count, ms in ms_per_frame.items()},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", choices=SIZES)
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--first-preview", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.first_preview:
        told = json.loads(given.first_preview)
        speak_first_preview(Plan(**told | {"checkpoint": Path(told["checkpoint"])}))
        return
    on_gpu = given.device.startswith("cuda")
    sizes = given.sizes or ("published" if on_gpu else "tiny")
    with tempfile.TemporaryDirectory() as folder:
        dtype = torch.bfloat16 if sizes == "published" else torch.float32
        checkpoint = tiny_checkpoint.build(Path(folder), SIZES[sizes], dtype=dtype)
        plan = Plan(checkpoint, sizes, given.device, given.frames or (125 if on_gpu else 50), 3)
        print(f"{sizes} sizes, random weights, on {machine(given.device)}\n\n| what | measured |\n|---|---|")
        ms_per_frame: dict[int, float] = {}
        for what, measured in measure(plan, ms_per_frame):
            print(f"| {what} | {measured} |", flush=True)
        if given.results:
            write_results(given.results, plan, ms_per_frame)


if __name__ == "__main__":
    main()
