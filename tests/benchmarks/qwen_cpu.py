"""Measures the Qwen3-TTS engine on a CPU in float32 and int8, with random weights of the published 0.6B sizes.

    python -m tests.benchmarks.qwen_cpu [--checkpoint FOLDER] [--threads 1,2] [--results FILE]

Each precision runs in a process of its own, one after the other, and the quantized layers come from their cache.
`network` (talker and predictor) and `codec` are the CPU time per frame of 80 ms, of all rows. The real-time factor
is the time by the wall clock for an utterance of two seconds, or for eight together, per second of audio.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from gpu_runner.engines.qwen.checkpoint.loading import open_model
from gpu_runner.engines.qwen.checkpoint.model import FRAMES_PER_SECOND
from gpu_runner.engines.qwen.decoder import CHUNK
from gpu_runner.engines.qwen.engine import QwenEngine
from pipeline.settings import Settings
from tests.benchmarks.peak_memory import peak_bytes
from tests.benchmarks.qwen_engine import machine
from tests.benchmarks.qwen_load import Size, closed_loop, utterances, voices
from tests.benchmarks.qwen_stages import parts
from tests.qwen import tiny_checkpoint
from tests.qwen.stages import never_ending

PRECISIONS = ("float32", "int8")
ROWS = (1, 8)
LOAD = Size(references=(5.0,), frames=(25, 25), rounds=1)
AUDIO_SECONDS = LOAD.frames[0] / FRAMES_PER_SECOND

Found = dict[str, Any]


def measure(checkpoint: Path, precision: str, threads: int) -> Found:
    """Load the model and measure it. The process must be new."""
    settings = Settings(
        qwen_tts_model_id=str(checkpoint), device="cpu", torch_threads=threads, torch_dtype=precision
    )
    began = time.perf_counter()
    model = open_model(settings)
    model.network  # noqa: B018 - it is packed now
    found: Found = {"peak_gib": round(peak_bytes(os.getpid()) / 2**30, 2)}
    QwenEngine(lambda: model, capacity=1, model="cpu").warm_up()
    found["ready_seconds"] = round(time.perf_counter() - began, 1)
    model.__dict__["network"] = never_ending(model.network)
    for rows in ROWS:
        measured = parts(model, rows, ["frame", "codec_of_4_frames"], times=3)
        found[f"network_ms_{rows}"] = measured["frame_ms"]
        found[f"codec_ms_{rows}"] = round(measured["codec_of_4_frames_ms"] / CHUNK, 1)
        engine = QwenEngine(lambda: model, capacity=rows, model="cpu")
        texts = utterances(voices(engine, LOAD), LOAD)
        began = time.perf_counter()
        closed_loop(engine, texts, rows, rows)
        found[f"real_time_factor_{rows}"] = round((time.perf_counter() - began) / (rows * AUDIO_SECONDS), 2)
    return found


def in_new_process(checkpoint: Path, precision: str, threads: int) -> Found:
    arguments = ["--checkpoint", str(checkpoint), "--threads", str(threads), "--precision", precision]
    command = [sys.executable, "-m", "tests.benchmarks.qwen_cpu", *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])  # type: ignore[no-any-return]


def compare(checkpoint: Path, threads: int) -> Found:
    """Measure both precisions, and how many times as fast int8 is."""
    found: Found = {precision: in_new_process(checkpoint, precision, threads) for precision in PRECISIONS}
    float32, int8 = (found[precision] for precision in PRECISIONS)
    found["times_as_fast"] = {
        name: round(float32[name] / int8[name], 2) for name in float32 if name.startswith("network")
    }
    return found


def table(threads: int, found: Found) -> str:
    """Return the rows of a Markdown table."""
    return "\n".join(f"| {threads} | {name} | {json.dumps(row)} |" for name, row in found.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="where the weights are, or will be")
    parser.add_argument("--threads", default="1", help="numbers of threads, separated by commas")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--precision", choices=PRECISIONS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    threads = [int(number) for number in given.threads.split(",")]
    if given.precision:
        print(json.dumps(measure(given.checkpoint, given.precision, threads[0])))
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = given.checkpoint or Path(folder)
        if not (checkpoint / "config.json").exists():
            tiny_checkpoint.build(checkpoint, tiny_checkpoint.PUBLISHED, dtype=torch.bfloat16)
        open_model(
            Settings(qwen_tts_model_id=str(checkpoint), device="cpu", torch_dtype="int8")
        )  # writes the cache
        found = {str(number): compare(checkpoint, number) for number in threads}
    for number, row in found.items():
        print(table(int(number), row))
    if given.results:
        command = "python -m tests.benchmarks.qwen_cpu " + " ".join(sys.argv[1:])
        document = {"machine": machine("cpu"), "cores": os.cpu_count(), "command": command, "threads": found}
        given.results.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
