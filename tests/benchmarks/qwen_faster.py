"""The stage of the engine's benchmark that times faster-qwen3-tts, in a process and an environment of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_runner.engines.qwen.checkpoint.model import FRAME_SAMPLES, FRAMES_PER_SECOND
from gpu_runner.engines.qwen.engine import QwenEngine
from tests.benchmarks.qwen_load import TEXT, Size, voices

ROOT = Path(__file__).parents[2]
ENVIRONMENT = "faster-qwen3-tts"
PROGRAM = Path(__file__).with_name("faster_program.py")
SECONDS = 540  # a stage takes less than ten minutes
ROUNDS = 3

Found = dict[str, Any]


def faster(checkpoint: Path, engine: QwenEngine, device: str, size: Size) -> Found:
    """Speak one text alone with faster-qwen3-tts, from the prompt to the samples, as the stage of qwen-tts does."""
    if not device.startswith("cuda"):
        return {"skipped": "faster-qwen3-tts is made of CUDA graphs, and this is a CPU"}
    try:
        command = [make_environment(), str(PROGRAM)]
    except subprocess.CalledProcessError as error:
        return {"skipped": f"its environment can't be made: {error}"}
    return compare(command, checkpoint, engine, device, size)


def make_environment() -> str:
    """Create the environment from its lock file; return its Python."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "localstack")}
    subprocess.run([sys.executable, "-m", "environments", ENVIRONMENT], check=True, env=environment, cwd=ROOT)
    return str(ROOT / ".venvs" / ENVIRONMENT / "bin" / "python")


def compare(command: Sequence[str], checkpoint: Path, engine: QwenEngine, device: str, size: Size) -> Found:
    """Ask the program for its time, for as many frames as the stage of qwen-tts."""
    prompt = voices(engine, size)[0]
    frames = round(max(1.0, max(size.frames) / FRAMES_PER_SECOND) * FRAMES_PER_SECOND)
    answer = ask(
        command,
        {
            "checkpoint": str(checkpoint),
            "device": device,
            "dtype": str(engine.loaded.dtype).removeprefix("torch."),
            "text": TEXT,
            "transcript": prompt.transcript,
            "codes": None if prompt.codes is None else prompt.codes.tolist(),
            "speaker": prompt.speaker.tolist(),
            "frames": frames,
            "frame_samples": FRAME_SAMPLES,
            "rounds": ROUNDS,
        },
    )
    return {"ms_per_frame": round(answer["ms"] / frames, 2)} if "ms" in answer else answer


def ask(command: Sequence[str], request: Found, seconds: float = SECONDS) -> Found:
    """Run the program; return the last line that it writes, or why there is none."""
    try:
        done = subprocess.run(
            command, input=json.dumps(request), stdout=subprocess.PIPE, text=True, timeout=seconds, check=False
        )
        answer: Found = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer within {seconds:g} s"}
    except (IndexError, ValueError):
        return {"failed": f"ended with status {done.returncode} and no answer"}
    return answer
